"""Models of events."""

from typing import Annotated, Any

from pydantic import Field

from api.models.common import Input, Model
from streams.core.limits import EVENT_TYPE_CHARACTERS

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
            max_length=EVENT_TYPE_CHARACTERS,
            examples=["session.launched"],
            description="Absent: `session.completed` if the webhook wants it, else the first type that it wants.",
        ),
    ] = None
