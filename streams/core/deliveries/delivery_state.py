"""The state of each delivery, computed from its records in any order and with duplicates."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason, State, Target, Trigger
from streams.core.deliveries.delivery_moves import TRANSITIONS
from streams.core.deliveries.schedule import Tier
from streams.core.events.event import EventSubjects


# Tuples, like an attempt: each record makes one.
class DeliveryState(NamedTuple):
    """The state of one delivery. `attempts` is the number made in this generation, `reason` is why it is held or dead.

    `target_attempt` is the number, from 1, of the next attempt within its target.
    """

    delivery_id: str
    account_id: str
    event_id: str
    event_type: str
    webhook_id: str
    trigger: Trigger
    first_seen_at: datetime
    generation: int
    step: int
    state: State
    attempts: int
    target: Target
    changed_at: datetime
    tier: str | None = None
    due_at: datetime | None = None
    reason: str | None = None
    message: str | None = None
    pause_id: str | None = None
    target_attempt: int = 1

    @property
    def is_first(self) -> bool:
        """Whether it comes from fan-out's record, which supersedes nothing."""
        return self.generation == 1 and self.step == 1 and self.state is not State.DELIVERED

    def supersedes(self, stored_state: "DeliveryState") -> bool:
        """Whether this is the newer state by (generation, step); *delivered* ends its generation at any step."""
        if self.generation == stored_state.generation:
            if stored_state.state is State.DELIVERED:
                return False
            if self.state is State.DELIVERED:
                return True
        return (self.generation, self.step) > (stored_state.generation, stored_state.step)


@dataclass(frozen=True, slots=True)
class StateCount:
    """The number of deliveries with the same state, tier and reason."""

    state: State
    tier: str | None
    reason: str | None
    count: int


class RecordedValue(NamedTuple):
    """The value of a record, with its append time."""

    value: Delivery | Attempt | DeadLetter
    appended_at: datetime


# Account id, event id: producers choose the ids of events.
EventKey = tuple[str, str]


class RecordedEvent(NamedTuple):
    """The stored part of an event, kept once for all its deliveries."""

    first_seen_at: datetime
    body: bytes
    trace_parent: str | None
    subjects: EventSubjects
    hash: bytes

    def __repr__(self) -> str:
        return f"RecordedEvent({self.first_seen_at})"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction stores. While `own_network_is_down`, network failures do not count for health."""

    delivery_states: Sequence[DeliveryState] = ()
    attempts: Sequence[Attempt] = ()
    events: Mapping[EventKey, RecordedEvent] = field(default_factory=dict, repr=False)
    own_network_is_down: bool = False

    def webhook_ids(self) -> set[str]:
        """Every webhook in the batch."""
        return {delivery_state.webhook_id for delivery_state in self.delivery_states} | {
            attempt.webhook_id for attempt in self.attempts
        }

    def account_ids(self) -> set[str]:
        """Every account in the batch."""
        return {delivery_state.account_id for delivery_state in self.delivery_states} | {
            attempt.account_id for attempt in self.attempts
        }


def merge_records(entries: Iterable[RecordedValue]) -> Batch:
    """Make a batch: the newest state of each delivery, every attempt, each event once."""
    delivery_states: dict[str, DeliveryState] = {}
    attempts: list[Attempt] = []
    events: dict[EventKey, RecordedEvent] = {}
    for entry in entries:
        value = entry.value
        if isinstance(value, Attempt):
            attempts.append(value)
        else:
            delivery = value.delivery if isinstance(value, DeadLetter) else value
            # The first body of an event counts.
            if (key := (delivery.account_id, delivery.event_id)) not in events:
                events[key] = recorded_event(delivery)
        delivery_state = delivery_state_of(entry)
        if delivery_state is None:
            continue
        previous = delivery_states.get(delivery_state.delivery_id)
        if previous is None or delivery_state.supersedes(previous):
            delivery_states[delivery_state.delivery_id] = delivery_state
    return Batch(tuple(delivery_states.values()), tuple(attempts), events)


def recorded_event(delivery: Delivery) -> RecordedEvent:
    """The stored part of a delivery's event."""
    return RecordedEvent(
        delivery.first_seen_at, delivery.body, delivery.trace_parent, delivery.subjects, delivery.event_hash
    )


def strip_details(entry: RecordedValue) -> RecordedValue:
    """The entry without external text, so that any database can store it."""
    if not isinstance(entry.value, Attempt):
        return entry
    message = f"({entry.value.outcome}; the details could not be stored)"
    stripped_value = entry.value._replace(
        request_headers={}, response_headers={}, response_body=b"", message=message, url=""
    )
    return entry._replace(value=stripped_value)


def delivery_state_of(entry: RecordedValue) -> DeliveryState | None:
    """The state of a delivery according to one of its records.

    None for an attempt that is followed by a record of its own (fallback, held, dead): that record has the state.
    """
    if isinstance(entry.value, Attempt):
        return _state_of_attempt(entry.value, entry.appended_at)
    return state_of_record(entry.value, entry.appended_at)


def state_of_record(value: Delivery | DeadLetter, at: datetime) -> DeliveryState:
    """The state of a delivery since `at`, from its record or its dead letter."""
    match value:
        case DeadLetter() as letter:
            state = State.FAILED if letter.delivery.trigger is Trigger.TEST else State.DEAD
            return _state_of_delivery(letter.delivery, state, at, reason=str(letter.reason), message=letter.message)
        case delivery if delivery.hold_reason is not None:
            return _state_of_delivery(
                delivery,
                State.HELD,
                at,
                # A reader may pull it from now on.
                due_at=at if delivery.hold_reason is HoldReason.PULL else None,
                reason=str(delivery.hold_reason),
                message=HELD_MESSAGES[delivery.hold_reason],
                pause_id=delivery.pause_id,
            )
        case delivery:
            return _state_of_delivery(delivery, State.WAITING, at, due_at=at, pause_id=delivery.pause_id)


HELD_MESSAGES = {
    HoldReason.PAUSED: "The webhook is paused.",
    HoldReason.BUSY: "The endpoint cannot take more at the moment.",
    HoldReason.RATE: "The webhook's rate does not allow more at the moment.",
    HoldReason.REPLAY: "It is sent again as soon as the webhook can take it.",
    HoldReason.PULL: "It waits until a reader pulls it.",
}


def _state_of_delivery(
    delivery: Delivery,
    state: State,
    at: datetime,
    due_at: datetime | None = None,
    reason: str | None = None,
    message: str | None = None,
    pause_id: str | None = None,
) -> DeliveryState:
    return DeliveryState(
        delivery_id=delivery.id,
        account_id=delivery.account_id,
        event_id=delivery.event_id,
        event_type=delivery.event_type,
        webhook_id=delivery.webhook_id,
        trigger=delivery.trigger,
        first_seen_at=delivery.first_seen_at,
        generation=delivery.generation,
        step=delivery.step,
        state=state,
        attempts=delivery.attempt - 1,
        target=delivery.target,
        changed_at=at,
        due_at=due_at,
        reason=reason,
        message=message,
        pause_id=pause_id,
        target_attempt=delivery.target_attempt,
    )


# After these steps a record of their own follows, which has the state.
_STEPS_WITH_OWN_RECORD = (NextStep.FALLBACK, NextStep.HELD, NextStep.DEAD)


def _state_of_attempt(attempt: Attempt, at: datetime) -> DeliveryState | None:
    if attempt.next_step in _STEPS_WITH_OWN_RECORD:
        return None
    state = TRANSITIONS[State.WAITING, attempt.next_step]
    is_retry = state is State.WAITING and attempt.tier is not None
    return DeliveryState(
        delivery_id=attempt.delivery_id,
        account_id=attempt.account_id,
        event_id=attempt.event_id,
        event_type=attempt.event_type,
        webhook_id=attempt.webhook_id,
        trigger=attempt.trigger,
        first_seen_at=attempt.first_seen_at,
        generation=attempt.generation,
        step=attempt.step,
        state=state,
        attempts=attempt.number,
        target=attempt.target,
        changed_at=at,
        tier=attempt.tier,
        due_at=at + attempt.waits * Tier(attempt.tier).wait if is_retry and attempt.tier else None,
        message=attempt.message,
        target_attempt=attempt.target_attempt + 1,
    )
