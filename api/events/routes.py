"""Routes for events and event types."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request

from api.admission import in_class
from api.auth import MayPublish, MayReadDeliveries, MayReadWebhooks
from api.events.models import EVENT_EXAMPLES, AcceptedEvents, EventType, EventWithDeliveries, event_with_deliveries
from api.services import services_of
from api.shared_models import Id, Moment
from api.strict_route import StrictRoute
from streams.core.events.event import render
from streams.core.events.event_data import EVENT_TYPES, data_schema
from streams.core.queues.request_class import RequestClass
from streams.features.webhooks.samples import sample_event

router = APIRouter(tags=["Events"], route_class=StrictRoute)


@router.post("/v1/events", status_code=202, summary="Publish events", operation_id="publishEvents")
@in_class(RequestClass.PUBLISH)
async def publish(
    body: Annotated[dict[str, Any], Body(openapi_examples=EVENT_EXAMPLES)],
    caller: MayPublish,
    count: Annotated[
        bool, Query(description="Whether the response says how many webhooks want each event now.")
    ] = False,
) -> AcceptedEvents:
    """One event, or up to 500 under `events`; all are accepted or none.

    An event is the payload that webhooks get; `id` and `accountId` are optional (an operator's key must name the
    account). An event without a `traceParent` gets the trace of the request. The response comes when Kafka
    acknowledged all events. After a 503 send the same request again, with the same `Idempotency-Key` or the same ids:
    the key and the body decide about the ids of events without one, and nothing else is stored for it.
    An account may publish ten seconds' worth of its limit at once; beyond that the request gets 429, and none of its
    events was accepted.
    """
    raise AssertionError("api/events/publish.py answers this route")


@router.get("/v1/events/{event_id}", summary="Find an event", operation_id="findEvent")
@in_class(RequestClass.SLOW)
async def find(
    event_id: Id,
    caller: MayReadDeliveries,
    request: Request,
    since: Annotated[
        Moment | None,
        Query(
            description="Search the topic from this time on, for an hour. Without it: around the time in an id that we "
            "made, or the last hour for an id of your own."
        ),
    ] = None,
) -> EventWithDeliveries:
    """Its deliveries. Without any, the topic is read for two seconds: is it there, and which webhooks want it?"""
    found_event = await services_of(request).event_search.find(event_id, caller.own_account_id, since)
    return event_with_deliveries(event_id, found_event)


@router.get("/v1/event-types", summary="List the event types", operation_id="listEventTypes")
async def event_types(caller: MayReadWebhooks, request: Request) -> list[EventType]:
    """Each with the JSON Schema of its `data` and an example."""
    now, account_id = services_of(request).clock.now(), caller.own_account_id
    return [
        EventType(
            type=name,
            data_schema=data_schema(name),
            example=json.loads(render(sample_event(name, "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1", account_id, now))),
        )
        for name in EVENT_TYPES
    ]
