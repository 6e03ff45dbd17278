"""Pages of deliveries: the list with filters, one delivery with every attempt."""

from datetime import datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.dashboard.forms import next_page
from api.dashboard.page_route import PageRoute
from api.dashboard.rendering import redirect, render
from api.dashboard.visits import Visit, visit_of
from api.models.common import cursor_of, text_of
from streams.core.access import Scope
from streams.core.account import DeliveryFilter
from streams.core.delivery import State
from streams.core.errors import FieldError, Invalid
from streams.core.event import parse_time
from streams.core.event_data import EVENT_TYPES

router = APIRouter(include_in_schema=False, route_class=PageRoute)

ROWS = 50


def _filter(request: Request, visit: Visit) -> DeliveryFilter:
    """The filter in the URL. Raises `Invalid`."""
    query = request.query_params
    state, kind = query.get("state") or None, query.get("type") or None
    if state is not None and state not in list(State):
        raise Invalid(FieldError("state", f"is one of {', '.join(State)}"))
    if kind is not None and kind not in EVENT_TYPES:
        raise Invalid(FieldError("type", f"is one of {', '.join(EVENT_TYPES)}"))
    return DeliveryFilter(
        visit.account.id,
        query.get("webhook") or None,
        query.get("event") or None,
        State(state) if state else None,
        ROWS,
        kind,
        since=_time(request, "since"),
        until=_time(request, "until"),
        after=cursor_of(query.get("after")),
    )


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    moment = parse_time(text)
    if moment is None:
        raise Invalid(FieldError(name, "must be a time such as 2026-04-10T12:00:00Z"))
    return moment


@router.get("/deliveries")
async def deliveries_page(request: Request) -> Response:
    """Newest first; the URL has the whole filter."""
    visit = await visit_of(request)
    wanted = _filter(request, visit)
    page = await visit.services.deliveries.list(wanted)
    webhooks = await visit.services.webhooks.page(visit.account.id, None, ROWS)
    return render(
        request,
        "deliveries.html",
        visit,
        rows=page.rows,
        next=next_page(request, text_of(page.next)),
        wanted=wanted,
        webhooks=webhooks.rows,
        states=list(State),
        types=list(EVENT_TYPES),
        query=request.query_params,
    )


@router.get("/deliveries/{delivery_id}")
async def delivery_page(delivery_id: str, request: Request) -> Response:
    """The payload, and every attempt with its request and its response."""
    visit = await visit_of(request)
    seen = await visit.services.deliveries.find(delivery_id, visit.account.id)
    return render(
        request,
        "delivery.html",
        visit,
        seen=seen,
        row=seen.delivery_state,
        body=(seen.body or b"").decode(errors="replace"),
        query=request.query_params,
    )


@router.get("/deliveries/{delivery_id}/payload")
async def payload(delivery_id: str, request: Request) -> Response:
    """The exact bytes that are sent."""
    visit = await visit_of(request)
    seen = await visit.services.deliveries.find(delivery_id, visit.account.id)
    name = "".join(character for character in seen.delivery_state.event_id if character.isalnum() or character in "-_")
    headers = {
        "Content-Disposition": f'attachment; filename="{name}.json"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(seen.body or b"", headers=headers, media_type="application/json")


@router.post("/deliveries/{delivery_id}/retry")
async def retry(delivery_id: str, request: Request) -> Response:
    visit = await visit_of(request)
    visit.require(Scope.DELIVERIES_WRITE)
    await visit.services.deliveries.retry(delivery_id, by=visit.member.actor, account_id=visit.account.id)
    return redirect(f"/deliveries/{delivery_id}?queued=1")
