"""Deliveries: each is one event owed to one webhook."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from streams.core.events.event import EventSubjects
from streams.core.ids import attempt_id, delivery_id


class Trigger(StrEnum):
    """Why a delivery is attempted."""

    EVENT = "event"
    MANUAL = "manual"
    TEST = "test"


class Target(StrEnum):
    """Which endpoint of the webhook is attempted."""

    PRIMARY = "primary"
    FALLBACK = "fallback"


class State(StrEnum):
    """The state of a delivery."""

    WAITING = "waiting"
    HELD = "held"
    DELIVERED = "delivered"
    DEAD = "dead"
    DISCARDED = "discarded"
    # A failed test; nobody has to act on it.
    FAILED = "failed"


# Held and waiting deliveries are sent without a replay.
REPLAYABLE = (State.DELIVERED, State.DEAD, State.DISCARDED)


class HoldReason(StrEnum):
    """Why a delivery is held."""

    PAUSED = "paused"
    BUSY = "busy"
    RATE = "rate"
    REPLAY = "replay"
    # Of a pull webhook: it waits for a reader.
    PULL = "pull"


class DeathReason(StrEnum):
    """Why a delivery was given up; the comments name the stage that decides it."""

    # `deliver`, by core/deliveries/decision.py.
    EXHAUSTED = "exhausted"
    DELETED = "deleted"
    GONE = "gone"
    # `deliver` for a test; `maintain` for a lost retry without its payload:
    # adapters/sql/deliveries/overdue_retries.py.
    EXPIRED = "expired"
    # `publish`, when it releases what a pause held (stages/release_held.py).
    KEPT = "kept"
    REFUSED = "refused"
    # `publish`, when no reader acknowledged it in time (stages/release_held.py).
    NOT_PULLED = "not_pulled"
    # `up`, when its embedded broker starts anew (adapters/sql/deliveries/lost_deliveries.py).
    BROKER_RESTARTED = "broker_restarted"


class SubscriptionsPosition(NamedTuple):
    """How far a process has read `subscriptions`: the topic's incarnation and the next offset in it."""

    incarnation: str
    offset: int


# A tuple: a frozen dataclass with this many fields takes three times as long to make, and each delivery is made often.
class Delivery(NamedTuple):
    """The value of a delivery's record. `attempt` is the number, from 1, of the next attempt.

    `target_attempt` is its number, from 1, within the target. A delivery that goes to the fallback endpoint keeps the
    number of attempts at the primary endpoint in `primary_attempts`. (generation, step) orders the records of one
    delivery. `subscriptions_position` is how far the record's writer had read `subscriptions`. `waits_left` counts the
    further waits in the same tier before the attempt is due. `pause_id` is the pause that holds the delivery; without a
    `hold_reason`, it is the pause that the delivery probes.
    """

    account_id: str
    event_id: str
    event_type: str
    webhook_id: str
    first_seen_at: datetime
    subscriptions_position: SubscriptionsPosition
    body: bytes
    subjects: EventSubjects
    event_hash: bytes
    trigger: Trigger = Trigger.EVENT
    generation: int = 1
    step: int = 1
    attempt: int = 1
    target: Target = Target.PRIMARY
    target_attempt: int = 1
    primary_attempts: int = 0
    waits_left: int = 0
    hold_reason: HoldReason | None = None
    pause_id: str | None = None
    trace_parent: str | None = None

    def __repr__(self) -> str:
        return f"Delivery({self.account_id}, {self.event_id}, {self.webhook_id}, {self.generation}, {self.step})"

    @property
    def id(self) -> str:
        return delivery_id(self.account_id, self.event_id, self.webhook_id)

    @property
    def ids(self) -> dict[str, str]:
        """The ids of a delivery, as fields of a log line."""
        return {
            "delivery_id": self.id,
            "event_id": self.event_id,
            "webhook_id": self.webhook_id,
            "account_id": self.account_id,
        }

    @property
    def attempt_id(self) -> str:
        return attempt_id(self.id, self.generation, self.attempt)

    @property
    def is_probe(self) -> bool:
        return self.pause_id is not None and self.hold_reason is None

    @property
    def is_first(self) -> bool:
        """Whether this is the delivery's first record, which fan-out wrote."""
        return self.step == 1

    def to_retry(self, waits_left: int = 0) -> "Delivery":
        """The record for the next attempt at the same target."""
        return self._replace(
            step=self.step + 1,
            attempt=self.attempt + 1,
            target_attempt=self.target_attempt + 1,
            waits_left=waits_left,
            hold_reason=None,
            pause_id=None,
        )

    def to_next_wait(self) -> "Delivery":
        """The record that waits once more in the same tier."""
        return self._replace(step=self.step + 1, waits_left=self.waits_left - 1)

    def to_fallback(self, *, is_attempted: bool) -> "Delivery":
        """The record for the first attempt at the fallback endpoint; `is_attempted` if the primary was just tried."""
        return self._replace(
            step=self.step + 1,
            attempt=self.attempt + is_attempted,
            target=Target.FALLBACK,
            target_attempt=1,
            primary_attempts=self.target_attempt - 1 + is_attempted,
            hold_reason=None,
            pause_id=None,
        )

    def to_primary(self) -> "Delivery":
        """The record for the attempt at the primary endpoint that was due before the delivery went to the fallback."""
        return self._replace(
            step=self.step + 1,
            target=Target.PRIMARY,
            target_attempt=self.primary_attempts + 1,
            hold_reason=None,
            pause_id=None,
        )

    def to_held(self, reason: HoldReason, pause_id: str | None, *, is_attempted: bool) -> "Delivery":
        """The record that waits for the webhook. It continues at the primary endpoint with the attempt that was due."""
        is_primary = self.target is Target.PRIMARY
        target_attempt = self.target_attempt + is_attempted if is_primary else self.primary_attempts + 1
        return self._replace(
            step=self.step + 1,
            attempt=self.attempt + is_attempted,
            target=Target.PRIMARY,
            target_attempt=target_attempt,
            hold_reason=reason,
            pause_id=pause_id,
        )

    def to_released(self) -> "Delivery":
        """The record that ends a hold: the attempt that was due, with the same number."""
        return self._replace(step=self.step + 1, hold_reason=None, pause_id=None)

    def to_probe(self, pause_id: str) -> "Delivery":
        """The record that is tried though its webhook is paused: one attempt, after which it is held again."""
        return self.to_released()._replace(pause_id=pause_id)

    def to_held_after_probe(self) -> "Delivery":
        """The record that is held in the same pause again. The probe used none of its retries."""
        target_attempt = self.target_attempt
        held = self.to_held(HoldReason.PAUSED, self.pause_id, is_attempted=True)
        return held._replace(target_attempt=target_attempt)

    def to_final(self, *, is_attempted: bool) -> "Delivery":
        """The record that a dead letter contains."""
        return self._replace(step=self.step + 1, attempt=self.attempt + is_attempted)
