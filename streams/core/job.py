"""A job: many deliveries that a person acts on at once, in portions that survive a restart."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from streams.core.account import DeliveryFilter

PORTION = 500
PATIENCE = timedelta(seconds=3)


class JobKind(StrEnum):
    """What is done with each delivery."""

    RETRY = "retry"
    DISCARD = "discard"


@dataclass(frozen=True, slots=True)
class Job:
    """Act on every delivery that `wanted` matched when the job was made.

    It goes from the oldest on: `reached` is when the last one acted on was first seen.
    `failed` are those that could not be acted on: their webhook or their payload is no more.
    """

    id: str
    account_id: str
    kind: JobKind
    filter: DeliveryFilter
    created_at: datetime
    total: int = 0
    done: int = 0
    failed: int = 0
    finished_at: datetime | None = None
    reached: datetime | None = None

    def gives_up(self, now: datetime) -> bool:
        """Whether what cannot be acted on is given up: the payload of what has just failed is recorded after it."""
        return self.kind is JobKind.DISCARD or now - self.created_at >= PATIENCE
