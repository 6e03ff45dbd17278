"""Routes for events and event types."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request

from api.auth import MayPublish, MayReadWebhooks
from api.models.events import EVENT_EXAMPLES, AcceptedEvents, EventType, taken
from api.problems import TooMany
from api.services import services_of
from api.strict_route import PublishRoute, StrictRoute
from streams.core.errors import FieldError, Invalid
from streams.core.event import render
from streams.core.event_data import EVENT_TYPES, data_schema
from streams.core.samples import sample_event
from streams.core.trace import SpanName, is_trace_parent
from streams.services.ingest import check_count

router = APIRouter(tags=["Events"], route_class=StrictRoute)
publishing = APIRouter(tags=["Events"], route_class=PublishRoute)


@publishing.post("/v1/events", status_code=202, summary="Publish events", response_model_exclude_none=True)
async def publish(
    body: Annotated[dict[str, Any], Body(openapi_examples=EVENT_EXAMPLES)],
    caller: MayPublish,
    request: Request,
) -> AcceptedEvents:
    """One event, or up to 500 under `events`; all are accepted or none.

    An event is the payload that webhooks get; `id` and `accountId` are optional (an operator's key must name the
    account). An event without a `traceParent` gets the trace of the request. The response comes when Kafka
    acknowledged all events. After a 503 send the same request again, with the same `Idempotency-Key` or the same ids.
    An account may publish ten seconds' worth of its limit at once; beyond that the request gets 429, and none of its
    events was accepted. `webhooks` is the number of webhooks that want each event now.
    """
    repeat_key = getattr(request.state, "repeat_key", None)
    services = services_of(request)
    given = request.headers.get("traceparent", "")
    span = services.telemetry.span(SpanName.PUBLISH, given if is_trace_parent(given) else None)
    try:
        items = _items(body)
        request.app.state.event_limits.take(caller, (caller.account_id or item.get("accountId") for item in items))
        accepted = await services.ingest.publish(items, caller.account_id, repeat_key, span.trace_parent)
    except BaseException as error:
        # A wrong request is the caller's error, and no failure of the server.
        span.end({}, None if isinstance(error, Invalid | TooMany) else type(error).__name__)
        raise
    span.end({"events": len(accepted)})
    for event in accepted if services.telemetry.is_debug_enabled else ():
        services.telemetry.debug("event_accepted", event_id=event.id, request_id=request.state.request_id)
    return taken(accepted)


@router.get("/v1/event-types", summary="List the event types")
async def event_types(caller: MayReadWebhooks, request: Request) -> list[EventType]:
    """Each with the JSON Schema of its `data` and an example."""
    now = services_of(request).clock.now()
    return [
        EventType(
            type=name,
            data_schema=data_schema(name),
            example=json.loads(render(sample_event(name, "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1", caller.account_id, now))),
        )
        for name in EVENT_TYPES
    ]


router.include_router(publishing)


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a request. Raises `Invalid`, first of all for too many events."""
    items = body.get("events", [body])
    if not isinstance(items, list):
        raise Invalid(FieldError("events", "must be a list of events"))
    if "events" in body and len(body) > 1:
        raise Invalid(*(FieldError(name, "is not a field next to events") for name in body if name != "events"))
    check_count(items)
    if errors := [
        FieldError(f"events[{n}]", "must be an object") for n, i in enumerate(items) if not isinstance(i, dict)
    ]:
        raise Invalid(*errors)
    return items
