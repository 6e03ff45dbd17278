"""Events as requests bring them and answers show them."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from api.models.common import Input, Model
from streams.core.limits import EVENT_TYPE_CHARACTERS
from streams.services.ingest import AcceptedEvent

_EVENT = {
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
    "several": {"summary": "Up to 500 events", "value": {"events": [_EVENT]}},
}


class AcceptedEventDetails(Model):
    """One event that was taken."""

    id: str
    webhooks: Annotated[
        int | None,
        Field(
            description="How many webhooks of the account want it as things are now, paused ones included; "
            "0 is a hint that none is registered for it. Absent while the database is away, and where the webhooks "
            "or their scopes are too many to compare."
        ),
    ] = None


class AcceptedEvents(Model):
    """The events in their order, and their ids; Kafka has acknowledged all of them."""

    ids: list[str]
    events: list[AcceptedEventDetails]


def taken(accepted: Sequence[AcceptedEvent]) -> AcceptedEvents:
    """What became of the events of one request."""
    return AcceptedEvents(
        ids=[event.id for event in accepted],
        events=[AcceptedEventDetails(id=event.id, webhooks=event.webhooks) for event in accepted],
    )


class EventType(Model):
    """A type of event that webhooks may take."""

    type: str
    data_schema: Annotated[dict[str, Any], Field(description="What `data` may hold, as JSON Schema.")]
    example: Annotated[dict[str, Any], Field(description="The whole payload, as a test sends it.")]


class NewTest(Input):
    """Which type of event to send."""

    type: Annotated[str, Field(min_length=1, max_length=EVENT_TYPE_CHARACTERS, examples=["session.launched"])] = (
        "session.completed"
    )
