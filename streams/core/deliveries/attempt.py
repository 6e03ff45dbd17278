"""Attempts, each one POST with its outcome, and dead letters, which are deliveries that were given up."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from streams.core.deliveries.delivery import DeathReason, Delivery, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.ids import attempt_id, delivery_id


class NextStep(StrEnum):
    """What follows an attempt."""

    DONE = "done"
    TIER = "tier"
    FALLBACK = "fallback"
    HELD = "held"
    DEAD = "dead"
    FAILED = "failed"


# A tuple: a frozen dataclass with this many fields takes three times as long to make.
class Attempt(NamedTuple):
    """One POST, as its record stores it. `step` is the step of the record that follows.

    `tier` is the name of its wait, and `waits` is how often it waits there before the next attempt.

    The values of the customer's own headers are masked in `request_headers`. `response_body` has at most 4 KiB.
    `webhook_version` is the webhook's version at the attempt, and `fields` are the sent fields; None means the whole
    body. `pause_id` is the pause that it probes, if it is a probe. `certificate_ends_at` is when the endpoint's
    certificate expires, if that is soon.
    """

    account_id: str
    event_id: str
    event_type: str
    webhook_id: str
    trigger: Trigger
    generation: int
    step: int
    number: int
    target: Target
    target_attempt: int
    health_epoch: int
    url: str
    first_seen_at: datetime
    started_at: datetime
    ended_at: datetime
    request_headers: Mapping[str, str]
    status: int | None
    response_headers: Mapping[str, str]
    response_body: bytes
    outcome: OutcomeKind
    message: str
    next_step: NextStep
    tier: str | None = None
    waits: int = 1
    webhook_version: int = 1
    fields: tuple[str, ...] | None = None
    pause_id: str | None = None
    certificate_ends_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Attempt({self.account_id}, {self.event_id}, {self.webhook_id}, {self.generation}, {self.number})"

    @property
    def delivery_id(self) -> str:
        return delivery_id(self.account_id, self.event_id, self.webhook_id)

    @property
    def id(self) -> str:
        return attempt_id(self.delivery_id, self.generation, self.number)

    @property
    def milliseconds(self) -> float:
        return (self.ended_at - self.started_at).total_seconds() * 1000

    @property
    def is_first_of_event(self) -> bool:
        """Whether it is the first attempt for an event: its step is 2, because fan-out's is 1."""
        return self.step == 2 and self.trigger is Trigger.EVENT

    def seconds_since_event(self, moment: datetime) -> float:
        return max((moment - self.first_seen_at).total_seconds(), 0.0)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up. `message` comes from the last attempt, if there was one."""

    delivery: Delivery
    reason: DeathReason
    message: str
