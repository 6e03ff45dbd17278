"""Records that a stage read and did not store yet."""

import math
from collections import deque
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime

from streams.ports import Partition, Record, RecordConsumer
from streams.topics import BULK_DELIVERIES, DELIVERIES

# Most deliveries are attempted within this time: stored before or after its attempt, a delivery is written twice.
LINGER_SECONDS = 0.3
# Deliveries wait at most this long behind many attempts.
MAX_WAIT_SECONDS = 10.0
# This many attempts in one batch mean that `deliver` may be behind, for so long.
BUSY_RECORDS = 100
BUSY_SECONDS = 1.0
HIGH_WATER = 8000
# Customers choose how large records are: these many may not be 8000 of the largest, which take 170 MB.
HIGH_WATER_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Queue:
    """Records in the order of arrival, each with the time at which it may be taken; `size` is that of their values."""

    queued: deque[tuple[float, Record]] = field(default_factory=deque)
    partitions: set[Partition] = field(default_factory=set)
    size: int = 0
    full: bool = False

    def fullness(self) -> float:
        """1 or more when no further record should come."""
        return max(len(self.queued) / HIGH_WATER, self.size / HIGH_WATER_BYTES)

    def add(self, at: float, record: Record) -> None:
        self.queued.append((at, record))
        self.size += _size(record)

    def since(self, moment: float) -> bool:
        """Whether the oldest record could be taken at this time."""
        return bool(self.queued) and self.queued[0][0] <= moment

    def take(self, most: int, overdue_at: float) -> list[Record]:
        records: list[Record] = []
        while len(records) < most and self.since(overdue_at):
            records.append(self.queued.popleft()[1])
        self.size -= sum(map(_size, records))
        return records

    def forget(self, partitions: Set[Partition]) -> None:
        self.partitions -= partitions
        self.queued = deque(entry for entry in self.queued if entry[1].partition not in partitions)
        self.size = sum(_size(record) for _, record in self.queued)


class WriteBuffer:
    """Two queues, one for `deliveries` and one for all other topics; each partition keeps its order.

    A delivery waits a moment for its attempt, which tells more, so that one write stores both. While attempts
    come in large batches, no more deliveries are taken than attempts. The partitions of a full queue are paused until
    half of it is taken. Times are seconds of any one clock, except `today`.
    """

    def __init__(self, consumer: RecordConsumer) -> None:
        self._consumer = consumer
        self._others = _Queue()
        self._deliveries = _Queue()
        self._busy_at = -math.inf
        self.closed = False

    def __len__(self) -> int:
        return len(self._others.queued) + len(self._deliveries.queued)

    def open(self, partitions: Iterable[Partition]) -> None:
        """Accept the records of these partitions, and read them unless their queue is full."""
        for partition in partitions:
            queue = self._queue_of(partition)
            queue.partitions.add(partition)
            (self._consumer.pause if queue.full else self._consumer.resume)(partition)

    def close(self) -> None:
        """Accept nothing more, and let nothing wait."""
        self.closed = True

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the records of partitions that were revoked."""
        forgotten = set(partitions)
        for queue in (self._others, self._deliveries):
            queue.forget(forgotten)
        self._resume_where_half_empty()

    def add(self, records: Sequence[Record], now: float, today: datetime) -> None:
        # A record after those that were dropped must not be committed.
        if self.closed:
            return
        for record in records:
            queue = self._queue_of(record.partition)
            wait = 0.0
            if queue is self._deliveries:
                wait = LINGER_SECONDS - max(0.0, (today - record.appended_at).total_seconds())
            queue.add(now + max(0.0, wait), record)
        for queue in (self._others, self._deliveries):
            if queue.fullness() >= 1:
                queue.full = True
                for partition in queue.partitions:
                    self._consumer.pause(partition)

    def take(self, most: int, now: float) -> list[Record]:
        """Up to `most` records to store now."""
        overdue = self._deliveries.since(now - MAX_WAIT_SECONDS)
        records = self._others.take(most // 2 if overdue else most, now)
        if len(records) >= BUSY_RECORDS:
            self._busy_at = now
        room = most - len(records)
        if not (overdue or self.closed) and now < self._busy_at + BUSY_SECONDS:
            room = min(room, len(records))
        records += self._deliveries.take(room, math.inf if self.closed else now)
        self._resume_where_half_empty()
        return records

    def next_at(self) -> float | None:
        """When the next record may be taken, if nothing more arrives."""
        if self._others.queued:
            return self._others.queued[0][0]
        if not self._deliveries.queued:
            return None
        ready_at = self._deliveries.queued[0][0]
        return min(max(ready_at, self._busy_at + BUSY_SECONDS), ready_at + MAX_WAIT_SECONDS)

    def _queue_of(self, partition: Partition) -> _Queue:
        return self._deliveries if partition.topic in (DELIVERIES, BULK_DELIVERIES) else self._others

    def _resume_where_half_empty(self) -> None:
        for queue in (self._others, self._deliveries):
            if queue.full and queue.fullness() <= 0.5:
                queue.full = False
                for partition in queue.partitions:
                    self._consumer.resume(partition)


def _size(record: Record) -> int:
    return len(record.value or b"")
