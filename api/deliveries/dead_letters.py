"""Pages of dead letters: the list, a preview of a retry or discard, and the job that does it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.deliveries.filters import counted_until, filter_of
from api.paging import cursor_of
from api.shell.forms import Form, SentForm, with_query
from api.shell.once import new_form_key
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.rows import names_of
from api.shell.visits import MayWriteDeliveries, SignedIn, Visit
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State
from streams.core.deliveries.job import JobKind
from streams.core.errors import FieldError, Invalid
from streams.core.page import Cursor
from streams.core.queues.request_class import RequestClass

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_ACTIONS = (JobKind.RETRY, JobKind.DISCARD)
_NONE_CHECKED_ERROR = FieldError("id", "Nothing is checked. Check dead letters, or choose all that match the filter")
MAX_WEBHOOKS = 50


def _dead_letter_filter(visit: Visit, form: Form, cursor: Cursor | None = None) -> DeliveryFilter:
    return filter_of(visit, form, ("webhook", "reason"), state=State.DEAD, after=cursor)


def _delivery_filter(delivery_filter: DeliveryFilter, form: Form) -> DeliveryFilter | None:
    """The filter of all matches, or of the checked ones; None if there are none."""
    if form["every"]:
        return delivery_filter
    return replace(delivery_filter, ids=form.values("id")) if form.values("id") else None


def _parse_action(text: str) -> JobKind:
    if text not in _ACTIONS:
        raise Invalid(FieldError("act", "choose retry or discard"))
    return JobKind(text)


@dataclass(frozen=True, slots=True)
class WebhookChoice:
    """A webhook of the filter, and its number of dead letters; None if they were not all counted."""

    id: str
    name: str
    count: int | None


async def _webhooks(visit: Visit, delivery_filter: DeliveryFilter) -> Sequence[WebhookChoice]:
    """The webhooks with the most dead letters, deleted ones included, and the one of the filter."""
    counts_by_webhook = await visit.services.search.count_by_webhook(DeliveryFilter(visit.account.id, state=State.DEAD))
    counts = dict(list(counts_by_webhook.items())[:MAX_WEBHOOKS])
    if delivery_filter.webhook_id:
        counts.setdefault(delivery_filter.webhook_id, None)
    names = await names_of(visit, (), *counts)
    return [WebhookChoice(key, names.get(key, key), count) for key, count in counts.items()]


@router.get("/dead-letters")
async def dead_letters_page(visit: SignedIn) -> Response:
    """The dead letters with their reasons, newest first."""
    return await _list_page(visit, visit.query)


async def _list_page(visit: Visit, form: Form, errors: tuple[FieldError, ...] = ()) -> Response:
    """The list by the fields of its filter, starting after the row `after`."""
    delivery_filter = _dead_letter_filter(visit, form, cursor_of(form["after"] or None))
    page = await visit.services.deliveries.list(delivery_filter)
    filter_values = {"webhook": delivery_filter.webhook_id, "reason": delivery_filter.reason}
    return render(
        visit,
        "dead_letters.html",
        return_path=with_query("/dead-letters", **filter_values, after=form["after"]),
        errors=errors,
        rows=page.rows,
        names=await names_of(visit, page.rows),
        after=form["after"],
        next=with_query("/dead-letters", **filter_values, after=page.next_cursor) if page.next_cursor else None,
        delivery_filter=delivery_filter,
        webhooks=await _webhooks(visit, delivery_filter),
        reasons=list(DeathReason),
    )


@router.get("/dead-letters/preview")
@in_class(RequestClass.SLOW)
async def preview_page(visit: MayWriteDeliveries) -> Response:
    """How many dead letters are retried or discarded, before anything happens."""
    query = visit.query
    action, delivery_filter = _parse_action(query["act"]), _delivery_filter(_dead_letter_filter(visit, query), query)
    if delivery_filter is None:
        return await _list_page(visit, query, (_NONE_CHECKED_ERROR,))
    counted_at = visit.services.clock.now()
    return render(
        visit,
        "dead_letters_preview.html",
        act=action,
        every=query["every"],
        ids=delivery_filter.ids or (),
        delivery_filter=delivery_filter,
        summary=await visit.services.deliveries.summary(replace(delivery_filter, changed_until=counted_at)),
        counted_at=counted_at,
        once=new_form_key(),
    )


@router.post("/dead-letters")
@in_class(RequestClass.SLOW)
async def act_on_dead_letters(visit: MayWriteDeliveries, form: SentForm) -> Response:
    """Retry or discard the checked dead letters, or all that match the filter."""
    action, delivery_filter = _parse_action(form["act"]), _delivery_filter(_dead_letter_filter(visit, form), form)
    if delivery_filter is None:
        return await _list_page(visit, form, (_NONE_CHECKED_ERROR,))
    delivery_filter = replace(delivery_filter, changed_until=counted_until(form))
    job = await visit.services.deliveries.start(
        action, delivery_filter, visit.account.id, actor=visit.actor, idempotency_key=form["once"] or None
    )
    return redirect(f"/jobs/{job.id}")
