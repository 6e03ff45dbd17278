"""Jobs: actions on many deliveries, done in portions that survive a restart."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from streams.core.account import DeliveryFilter
from streams.core.backfill import Backfill
from streams.core.page import Cursor

PORTION = 500
PATIENCE = timedelta(seconds=3)


class JobKind(StrEnum):
    """What is done with each delivery."""

    # Dead letters, or deliveries that wait in a tier.
    RETRY = "retry"
    DISCARD = "discard"
    # The deliveries of a period, each at most once.
    REPLAY = "replay"


class JobStatus(StrEnum):
    """Whether a job goes on."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """An action on every delivery that `filter` matched when the job was created.

    It begins with the oldest; `reached` is when the last one that it acted on was first seen, `reached_id` its id.
    `failed` counts the deliveries whose webhook or payload no longer exists. A replay with a `backfill` then adds
    deliveries that are not stored.
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
    reached_id: str | None = None
    cancelled: bool = False
    backfill: Backfill | None = None

    @property
    def status(self) -> JobStatus:
        if self.finished_at is None:
            return JobStatus.RUNNING
        return JobStatus.CANCELLED if self.cancelled else JobStatus.FINISHED

    @property
    def reads_history(self) -> bool:
        """Whether the next portion comes from `session-events`: the stored deliveries are replayed."""
        return self.finished_at is None and self.backfill is not None and self.backfill.is_due

    @property
    def place(self) -> Cursor | None:
        """The last delivery of a replay that is done. The next one comes after it, so that none is replayed twice."""
        if self.kind is not JobKind.REPLAY or self.reached is None or self.reached_id is None:
            return None
        return Cursor(self.reached, self.reached_id)

    @property
    def progress(self) -> tuple[int, int]:
        """How much is done, of how much: deliveries, and records of `session-events`."""
        read, records = (self.backfill.read, self.backfill.records) if self.backfill else (0, 0)
        done, total = self.done + self.failed + read, self.total + records
        return (
            (max(total, 1), max(total, 1)) if self.status is JobStatus.FINISHED else (min(done, total), max(total, 1))
        )

    def gives_up(self, now: datetime) -> bool:
        """Whether to give up deliveries without a payload: that of a recent failure may be stored after the failure."""
        return self.kind is JobKind.DISCARD or now - self.created_at >= PATIENCE

    def ended(self, now: datetime, failed: int) -> "Job":
        """The job after its last stored delivery. A backfill begins; another job is finished."""
        if self.backfill is not None and not self.backfill.is_due:
            return replace(self, failed=failed, backfill=replace(self.backfill, is_due=True))
        return replace(self, failed=failed, finished_at=now)
