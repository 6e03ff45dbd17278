"""Models of replays by time."""

from typing import Annotated

from pydantic import Field

from api.deliveries.models import EventType
from api.shared_models import Input, Model, Moment, Rounded, Time, at_most
from streams.core.deliveries.delivery import REPLAYABLE, State
from streams.core.limits import MAX_EVENT_TYPES_LISTED
from streams.features.replays.rules import DEFAULT_STATES, ReplayRequest

_MAX_STATES = len(State)


class Replay(Input):
    """What to send to a webhook again."""

    since: Annotated[Moment, Field(description="Only events that the platform first saw then or later.")]
    until: Annotated[Moment | None, Field(description="Only events first seen before; now by default.")] = None
    event_types: Annotated[
        list[EventType],
        Field(
            default_factory=list,
            max_length=MAX_EVENT_TYPES_LISTED,
            description="Only of these types; an empty list means all.",
        ),
        at_most(MAX_EVENT_TYPES_LISTED, "event types"),
    ]
    states: Annotated[
        list[Annotated[State, Field(strict=False)]],
        Field(
            default_factory=lambda: list(DEFAULT_STATES),
            max_length=_MAX_STATES,
            description=f"Any of {', '.join(REPLAYABLE)}; delivered and dead by default.",
        ),
        at_most(_MAX_STATES, "states"),
    ]
    backfill: Annotated[
        bool, Field(description="Also the events of this period that the webhook wants and has no delivery of.")
    ] = False
    count_only: Annotated[bool, Field(description="Only count; start nothing.")] = False

    def to_replay_request(self, webhook_id: str) -> ReplayRequest:
        """The request for services."""
        types, states = tuple(self.event_types), tuple(self.states)
        return ReplayRequest(webhook_id, self.since, self.until, types, states, self.backfill)


class MissingEvents(Model):
    """The events on the topic that a backfill would add."""

    count: int
    at_least: Annotated[bool, Field(description="True when the count stopped early: there may be more.")]
    oldest_available: Annotated[
        Time | None,
        Field(description="Events before this time may be gone: the topic has none that is older. Absent if empty."),
    ] = None


class ReplayCounted(Model):
    """How many deliveries match, and when the oldest and the newest of them were first seen."""

    count: int
    counted_at: Annotated[Time, Field(description="As `until` of the replay, it leaves out what came later.")]
    oldest_at: Time | None = None
    newest_at: Time | None = None
    estimated_seconds: Annotated[
        Rounded | None,
        Field(description="About how long the endpoint needs for all, by its response times of the last day."),
    ] = None
    missing: Annotated[MissingEvents | None, Field(description="With `backfill`.")] = None
