"""Replays: deliveries of a webhook to send again."""

from dataclasses import dataclass
from datetime import datetime

from streams.core.accounts.account import DeliveryFilter, DeliverySummary
from streams.core.deliveries.delivery import REPLAYABLE, State
from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import EVENT_TYPES

# Deliveries that an endpoint lost or never got. Not discarded ones: a person decided.
DEFAULT_STATES = (State.DELIVERED, State.DEAD)


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """The deliveries of one webhook that were first seen since `since`, and before `until` or now.

    No `event_types` means all. `backfill` adds the events for which the webhook has no delivery.
    """

    webhook_id: str
    since: datetime
    until: datetime | None = None
    event_types: tuple[str, ...] = ()
    states: tuple[State, ...] = DEFAULT_STATES
    backfill: bool = False

    def to_filter(self, account_id: str, now: datetime) -> DeliveryFilter:
        """The filter that finds these deliveries. Raises `Invalid`, which names each wrong field."""
        if errors := self._errors(now):
            raise Invalid(*errors)
        return DeliveryFilter(
            account_id,
            self.webhook_id,
            since=self.since,
            until=min(self.until or now, now),
            # A delivery that changes later, such as a replayed one, does not match.
            changed_until=now,
            states=self.states,
            event_types=self.event_types or None,
            without_tests=True,
        )

    def _errors(self, now: datetime) -> list[FieldError]:
        errors = []
        if self.since >= now:
            errors.append(FieldError("since", "must be in the past"))
        if self.until is not None and self.until <= self.since:
            errors.append(FieldError("until", "must be later than since"))
        if unknown_types := sorted(set(self.event_types) - EVENT_TYPES.keys()):
            errors.append(FieldError("eventTypes", f"{unknown_types[0]!r} is not one of: {', '.join(EVENT_TYPES)}"))
        if set(self.states) - set(REPLAYABLE):
            states = ", ".join(REPLAYABLE)
            errors.append(FieldError("states", f"must be of: {states}; held and waiting deliveries are sent anyway"))
        if not self.states and not self.backfill:
            errors.append(FieldError("states", "must name a state, unless backfill is true"))
        return errors


@dataclass(frozen=True, slots=True)
class MissingEvents:
    """How many events a backfill would add; with `at_least` there may be more, because the count stopped early.

    `oldest_available` is the append time of the oldest event that the topic has.
    """

    count: int
    at_least: bool
    oldest_available: datetime | None


@dataclass(frozen=True, slots=True)
class ReplayCount:
    """The deliveries that a replay would send, and roughly how long the endpoint would take: None if unknown."""

    deliveries: DeliverySummary
    missing: MissingEvents | None = None
    estimated_seconds: float | None = None
