"""Jobs: actions on many deliveries, done in portions that survive a restart."""

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
    """An action on every delivery that `filter` matched when the job was created.

    It begins with the oldest; `reached` is when the last one that it acted on was first seen. `failed` counts the
    deliveries whose webhook or payload no longer exists.
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
        """Whether to give up deliveries without a payload: that of a recent failure may be stored after the failure."""
        return self.kind is JobKind.DISCARD or now - self.created_at >= PATIENCE
