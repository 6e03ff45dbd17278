"""Models of events."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from api.deliveries.models import Delivery, delivery_of
from api.shared_models import Input, Model, Time, at_most
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_EVENT_TYPE_CHARACTERS, MAX_REQUEST_FIELDS
from streams.features.events.search import FoundEvent

_EVENT: dict[str, Any] = {
    "type": "session.completed",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": {
        "sessionId": "sess_abc123",
        "packageId": "pkg_def456",
        "learnerId": "learner-42",
        "completionStatus": "completed",
        "successStatus": "passed",
        "totalTime": "PT12M34S",
    },
}
EVENT_EXAMPLES = {
    "one": {"summary": "One event", "value": _EVENT},
    "metadata": {
        "summary": "With metadata: `metadata.department` can be filtered",
        "value": {**_EVENT, "data": {**_EVENT["data"], "metadata": {"department": "sales"}}},
    },
    "several": {"summary": "Up to 500 events", "value": {"events": [_EVENT]}},
}


# Fields of every type; the service checks those of the test's type.
TEST_DATA_SCHEMA: dict[str, Any] = {
    "type": "object",
    "maxProperties": MAX_REQUEST_FIELDS,
    "properties": {
        name: {"anyOf": [dict(field.kind.schema), {"type": "null"}]}
        for fields in EVENT_TYPES.values()
        for name, field in fields.items()
    },
    "additionalProperties": False,
}


class AcceptedEventDetails(Model):
    """One accepted event."""

    id: str
    webhooks: Annotated[
        int | None,
        Field(
            description="With `?count=true`, the number of webhooks of the account that want it now, paused ones "
            "included; 0 is a hint that no webhook is registered for it. Absent without that, while the database is "
            "away, or when the webhooks or their scopes are too many to compare."
        ),
    ] = None


class AcceptedEvents(Model):
    """The events in their order, and their ids; Kafka acknowledged all."""

    ids: list[str]
    events: list[AcceptedEventDetails]


class EventOnTopic(Model):
    """An event on `session-events` without a delivery."""

    type: str
    created_at: Time
    published_at: Annotated[Time, Field(description="When Kafka appended it.")]
    webhooks: Annotated[
        list[str] | None,
        Field(
            description="The webhooks that want it now, at most 100: a delivery of each may be on its way. Absent when "
            "the account's webhooks are too many to compare."
        ),
    ] = None
    reason: Annotated[
        str | None,
        Field(
            description="Why no webhook wants it: `no_webhook`, or of the webhook that came closest: `type`, "
            "`scope` or `filter`."
        ),
    ] = None
    detail: Annotated[
        str | None,
        Field(
            description="For `filter`: the webhook, and the first condition that does not hold.",
            examples=['wh_01HYX9K2M3N4P5Q6R7S8T9V0W1: successStatus is "failed", not "passed"'],
        ),
    ] = None


class EventWithDeliveries(Model):
    """An event with its newest deliveries, at most 100; without deliveries, what the topic says about it."""

    id: str
    deliveries: list[Delivery]
    on_topic: EventOnTopic | None = None


def event_with_deliveries(event_id: str, found_event: FoundEvent) -> EventWithDeliveries:
    """A found event."""
    published = found_event.published
    on_topic = published and EventOnTopic(
        type=published.event.type,
        created_at=published.event.occurred_at,
        published_at=published.appended_at,
        webhooks=published.webhook_ids,
        reason=published.reason,
        detail=published.detail,
    )
    return EventWithDeliveries(
        id=event_id, deliveries=list(map(delivery_of, found_event.deliveries)), on_topic=on_topic
    )


class EventType(Model):
    """An event type."""

    type: str
    data_schema: Annotated[dict[str, Any], Field(description="The JSON Schema of `data`.")]
    example: Annotated[dict[str, Any], Field(description="The whole payload, as a test event has it.")]


class NewTest(Input):
    """A test event to send."""

    type: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=MAX_EVENT_TYPE_CHARACTERS,
            examples=["session.launched"],
            description="Absent: `session.completed` if the webhook wants it, else the first type that it wants.",
        ),
    ] = None
    data: Annotated[
        dict[str, Any] | None,
        WithJsonSchema(TEST_DATA_SCHEMA),
        Field(
            max_length=MAX_REQUEST_FIELDS,
            examples=[{"successStatus": "failed"}],
            description="Fields of `data` in place of the example's; `null` removes one.",
        ),
        at_most(MAX_REQUEST_FIELDS, "fields"),
    ] = None
