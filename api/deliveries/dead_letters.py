"""Pages of dead letters: the list, what would be retried or discarded, and the job that does it."""

from collections.abc import Sequence
from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from api.deliveries.filters import ROWS, filter_of
from api.paging import cursor_of
from api.shell.forms import Form, SentForm, next_page
from api.shell.once import new_once
from api.shell.page_route import PageRoute
from api.shell.rendering import redirect, render
from api.shell.rows import names_of
from api.shell.visits import MayWriteDeliveries, SignedIn, Visit
from streams.core.account import DeliveryFilter
from streams.core.delivery import DeathReason, State
from streams.core.errors import FieldError, Invalid
from streams.core.job import JobKind
from streams.core.page import Cursor

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_ACTS = (JobKind.RETRY, JobKind.DISCARD)


def _dead(visit: Visit, form: Form, after: Cursor | None = None) -> DeliveryFilter:
    return filter_of(visit, form, ("webhook", "reason"), state=State.DEAD, after=after)


def _chosen(wanted: DeliveryFilter, every: str, ids: Sequence[str]) -> DeliveryFilter:
    """All that match, or those that are checked."""
    if every:
        return wanted
    if not ids:
        raise Invalid(FieldError("id", "check the dead letters first, or choose all that match"))
    return replace(wanted, ids=ids)


def _act(text: str) -> JobKind:
    if text not in _ACTS:
        raise Invalid(FieldError("act", "choose retry or discard"))
    return JobKind(text)


@router.get("/dead-letters")
async def dead_letters_page(visit: SignedIn) -> Response:
    """With their reasons, newest first."""
    query = visit.request.query_params
    wanted = _dead(visit, visit.query, cursor_of(query.get("after")))
    page = await visit.services.deliveries.list(wanted)
    webhooks = await visit.services.webhooks.page(visit.account.id, None, ROWS)
    return render(
        visit,
        "dead_letters.html",
        rows=page.rows,
        names=await names_of(visit, page.rows),
        next=next_page(visit.request, page.next),
        wanted=wanted,
        webhooks=webhooks.rows,
        reasons=list(DeathReason),
    )


@router.get("/dead-letters/preview")
async def preview_page(visit: MayWriteDeliveries) -> Response:
    """How many dead letters are retried or discarded, before anything happens."""
    query = visit.query
    act, every, ids = _act(query["act"]), query["every"], query.all("id")
    wanted = _chosen(_dead(visit, query), every, ids)
    return render(
        visit,
        "dead_letters_preview.html",
        act=act,
        every=every,
        ids=[] if every else ids,
        wanted=wanted,
        found=await visit.services.deliveries.summary(wanted),
        once=new_once(),
    )


@router.post("/dead-letters")
async def act_on_dead_letters(visit: MayWriteDeliveries, form: SentForm) -> Response:
    """Retry or discard what is checked, or all that match the filter."""
    act = _act(form["act"])
    wanted = _chosen(_dead(visit, form), form["every"], form.all("id"))
    job = await visit.services.deliveries.start(
        act, wanted, visit.account.id, by=visit.actor, once=form["once"] or None
    )
    return redirect(f"/jobs/{job.id}")
