"""Jobs: actions on many deliveries, done in portions that survive a restart."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.backfill import MIN_EVENT_AGE, Backfill

PORTION_SIZE = 500
# `record` stores a payload up to ten seconds after the attempt, and later while it is behind.
PAYLOAD_WAIT = timedelta(seconds=60)


class JobKind(StrEnum):
    """The action on each delivery."""

    # Dead letters, or deliveries that wait in a tier.
    RETRY = "retry"
    DISCARD = "discard"
    # The deliveries of a period, each at most once.
    REPLAY = "replay"


class JobStatus(StrEnum):
    """Whether a job still runs, or how it ended."""

    RUNNING = "running"
    FINISHED = "finished"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Job:
    """An action on every delivery that `filter` matched when the job was created.

    It begins with the oldest; `reached` is when the newest delivery of the last portion was first seen. Deliveries that
    it acted on no longer match, so it goes through its filter again until nothing is left that it can change. `failed`
    counts the rest, whose webhook or payload does not exist. A replay with a `backfill` adds deliveries that are not
    stored, and goes through its filter once more.
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
    cancelled: bool = False
    backfill: Backfill | None = None

    @property
    def status(self) -> JobStatus:
        if self.finished_at is None:
            return JobStatus.RUNNING
        return JobStatus.CANCELLED if self.cancelled else JobStatus.FINISHED

    @property
    def is_backfilling(self) -> bool:
        """Whether the next portion comes from `session-events`, because the stored deliveries are replayed."""
        backfill = self.backfill
        return self.finished_at is None and backfill is not None and backfill.is_due and not backfill.is_fully_read

    @property
    def unmatched(self) -> int:
        """How many other deliveries changed first: sent again by a person, erased, or deleted by retention."""
        return max(0, self.total - self.done - self.failed) if self.status is JobStatus.FINISHED else 0

    @property
    def progress(self) -> tuple[int, int]:
        """The amount done, and the total: deliveries, and records of `session-events`."""
        records_read, records = (self.backfill.read, self.backfill.records) if self.backfill else (0, 0)
        processed_count, total = self.done + self.failed + records_read, self.total + records
        return (
            (max(total, 1), max(total, 1))
            if self.status is JobStatus.FINISHED
            else (min(processed_count, total), max(total, 1))
        )

    @property
    def has_pending_backfill(self) -> bool:
        """Whether the backfill follows when the job finds nothing more to do."""
        return self.backfill is not None and not self.backfill.is_due

    def with_backfill_due(self) -> "Job":
        assert self.backfill is not None
        return replace(self, backfill=replace(self.backfill, is_due=True))

    @property
    def waits_until(self) -> datetime | None:
        """The time until which deliveries of a replay's period may still be stored. None for another job."""
        is_running = self.finished_at is None and self.kind is JobKind.REPLAY
        return self.filter.until + MIN_EVENT_AGE if is_running and self.filter.until else None

    def is_settled(self, now: datetime) -> bool:
        """Whether the deliveries of the job's period are stored.

        A retry or a discard acts on deliveries that a person saw.
        """
        return self.waits_until is None or now >= self.waits_until

    def has_given_up(self, now: datetime) -> bool:
        """Whether the job stops waiting for missing payloads."""
        return now - self.created_at >= PAYLOAD_WAIT

    def with_progress(self, count: int, reached_at: datetime) -> "Job":
        """The job after a portion. Deliveries that were stored after it began add to the total."""
        processed_count = self.done + count
        return replace(self, done=processed_count, total=max(self.total, processed_count), reached=reached_at)

    def to_finished(self, now: datetime, failed_count: int) -> "Job":
        return replace(self, failed=failed_count, total=max(self.total, self.done + failed_count), finished_at=now)
