"""Pages of deliveries: the list with filters, one delivery with its attempts."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from fastapi import APIRouter
from starlette.responses import Response

from api.admission import in_class
from api.deliveries.filters import chips_of, facets_of, filter_of, links_of
from api.paging import cursor_of
from api.shell.csv_file import csv_response
from api.shell.page_route import PageRoute
from api.shell.rendering import format_duration, redirect, render
from api.shell.rows import names_of, webhook_name, webhook_of
from api.shell.visits import MayWriteDeliveries, SignedIn, Visit, site_of
from api.webhooks.code_samples import curl
from streams.core.accounts.access import Scope
from streams.core.accounts.account import AttemptDetails, DeliveryDetails, DeliveryFilter
from streams.core.deliveries.delivery import HoldReason, State
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import parse_pair
from streams.core.limits import MAX_ATTEMPTS_SHOWN
from streams.core.queues.request_class import RequestClass
from streams.core.times import TIME_DESCRIPTION, format_time, parse_time
from streams.features.deliveries.search_rules import IdKind
from streams.features.deliveries.service import EventStatus

router = APIRouter(include_in_schema=False, route_class=PageRoute)

PAGE_ROWS = 50
CSV_HEADER = ("event", "type", "sequence", "state", "target", "first_seen_at", "changed_at", "attempts", "delivery")


@router.get("/deliveries")
async def deliveries_page(visit: SignedIn) -> Response:
    """The list, newest first; the URL has the whole filter."""
    services, query = visit.services, visit.request.query_params
    delivery_filter = filter_of(visit, visit.query, after=cursor_of(query.get("after")))
    links = links_of(visit.request, delivery_filter)
    problem = None
    if text := query.get("q", "").strip():
        kind = await services.search.kind_of(visit.account.id, text)
        if kind is IdKind.DELIVERY:
            return redirect(f"/deliveries/{text}")
        if kind is not None:
            return redirect(links(**{kind: text}))
        with suppress(Invalid):
            parse_pair(text)
            return redirect(links(metadata=text))
        problem = (
            "No delivery has this id: no event, session, learner, package or dispatch. Ids are searched as a whole. "
            "An event that no webhook wants has no delivery: GET /v1/events/{id} says why."
        )
    elif links.parameters != {name: value for name, value in query.items() if name != "after"}:
        # Redirect if a time has no zone or a form field is empty, so that a link means the same to everybody.
        return redirect(links(after=query.get("after") or None))
    result, facets = await asyncio.gather(
        services.search.search(delivery_filter), services.search.facets(delivery_filter)
    )
    webhook_ids = [*facets.webhook_ids, *filter(None, [delivery_filter.webhook_id])]
    names = await names_of(visit, result.page.rows, *webhook_ids)
    return render(
        visit,
        "deliveries.html",
        result=result,
        facets=facets_of(links, facets, names, services.clock.now()),
        sample=facets.sample,
        names=names,
        links=links,
        retry_link=replace(links, path="/deliveries/retry")(),
        chips=chips_of(links, names),
        problem=problem,
        retention_days=site_of(visit.request).retention_days,
        next=links(after=result.page.next_cursor) if result.page.next_cursor else None,
        delivery_filter=delivery_filter,
    )


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """An attempt, the time since the one before it, and the same request for a shell."""

    attempt: AttemptDetails
    wait: str | None
    generation_begins: bool
    curl: str | None


def _timeline(details: DeliveryDetails, is_newest_page: bool) -> list[TimelineStep]:
    steps: list[TimelineStep] = []
    previous: AttemptDetails | None = None
    for attempt in details.attempts:
        # The attempt before the first one of a page is not read, so the first one shows no wait.
        first_started_at = attempt.started_at if details.earlier_cursor else details.delivery_state.first_seen_at
        previous_started_at = previous.started_at if previous else first_started_at
        is_last = is_newest_page and attempt is details.attempts[-1]
        steps.append(
            TimelineStep(
                attempt,
                format_duration(wait)
                if (wait := attempt.started_at - previous_started_at) >= timedelta(seconds=1)
                else None,
                previous is not None and previous.generation != attempt.generation,
                curl(attempt.url, attempt.request_headers, details.body)
                if is_last and attempt.request_headers
                else None,
            )
        )
        previous = attempt
    return steps


@router.get("/deliveries/{delivery_id}")
async def delivery_page(delivery_id: str, visit: SignedIn) -> Response:
    """The payload, and the newest attempts with their requests and responses, or those before a cursor."""
    service, cursor = visit.services.deliveries, cursor_of(visit.request.query_params.get("after"))
    details = await service.find(delivery_id, visit.account.id)
    newest_attempt = next(reversed(details.attempts), None)
    if cursor is not None:
        page = await service.attempts(delivery_id, cursor, MAX_ATTEMPTS_SHOWN, visit.account.id)
        details = replace(details, attempts=page.rows[::-1], earlier_cursor=page.next_cursor)
    row, now = details.delivery_state, visit.services.clock.now()
    is_for_readers = (row.state, row.reason) == (State.HELD, HoldReason.PULL)
    webhook = await webhook_of(visit, row.webhook_id)
    body = (details.body or b"").decode(errors="replace")
    return render(
        visit,
        "delivery.html",
        seen=details,
        row=row,
        is_for_readers=is_for_readers,
        is_leased=is_for_readers and row.due_at is not None and now < row.due_at,
        webhook_name=webhook_name(webhook),
        is_deleted=webhook is None or webhook.deleted_at is not None,
        steps=_timeline(details, is_newest_page=cursor is None),
        newest=cursor is None,
        earlier=details.earlier_cursor,
        sees_headers=visit.may(Scope.WEBHOOKS_WRITE),
        body=body,
        only_fields=newest_attempt.fields if newest_attempt else webhook and webhook.options.fields,
    )


@router.get("/deliveries/{delivery_id}/payload")
async def payload(delivery_id: str, visit: SignedIn) -> Response:
    """The exact bytes that are sent to the endpoint."""
    details = await visit.services.deliveries.find(delivery_id, visit.account.id)
    name = "".join(
        character for character in details.delivery_state.event_id if character.isalnum() or character in "-_"
    )
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.json"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(details.body or b"", headers=headers, media_type="application/json")


@router.get("/webhooks/{webhook_id}/deliveries.csv")
@in_class(RequestClass.SLOW)
async def deliveries_csv(webhook_id: str, visit: SignedIn) -> Response:
    """The status of each event at a webhook, newest first, from `since` until `until`."""
    await visit.services.webhooks.find(webhook_id, visit.account.id)
    since, until = (_time_in_query(visit, name) for name in ("since", "until"))
    delivery_filter = DeliveryFilter(visit.account.id, webhook_id, since=since, until=until)
    statuses = visit.services.deliveries.all_statuses(delivery_filter)
    return await csv_response(f"deliveries-{webhook_id}.csv", CSV_HEADER, statuses, _csv_cells)


def _time_in_query(visit: Visit, name: str) -> datetime | None:
    text = visit.query[name]
    if text and (moment := parse_time(text)) is None:
        raise Invalid(FieldError(name, TIME_DESCRIPTION))
    return moment if text else None


def _csv_cells(status: EventStatus) -> Sequence[object]:
    row = status.delivery_state
    times = (format_time(row.first_seen_at), format_time(row.changed_at))
    return (row.event_id, row.event_type, status.sequence, row.state, row.target, *times, row.attempts, row.delivery_id)


@router.post("/deliveries/{delivery_id}/retry")
async def retry(delivery_id: str, visit: MayWriteDeliveries) -> Response:
    await visit.services.deliveries.retry(delivery_id, actor=visit.actor, account_id=visit.account.id)
    return redirect(f"/deliveries/{delivery_id}?queued=1")
