"""Records that a stage has read but not stored yet."""

import math
from collections import deque
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime

from streams.ports.kafka import Partition, Record, RecordConsumer
from streams.topics import BULK_DELIVERIES, DELIVERIES

# Most deliveries are attempted within this time. A delivery that is stored apart from its attempt is written twice.
LINGER_SECONDS = 0.3
# Deliveries wait at most this long behind many attempts.
MAX_WAIT_SECONDS = 10.0
# This many attempts in one batch mean that `deliver` may be behind, for these seconds.
BUSY_RECORDS = 100
BUSY_SECONDS = 1.0
MAX_BUFFERED_RECORDS = 8000
# Customers choose how large records are: 8000 of the largest would take 170 MB.
MAX_BUFFERED_BYTES = 32 * 1024 * 1024


@dataclass(slots=True)
class _Queue:
    """Records in the order of arrival, each with the time at which it may be taken; `size` counts their values."""

    max_records: int
    entries: deque[tuple[float, Record]] = field(default_factory=deque)
    partitions: set[Partition] = field(default_factory=set)
    size: int = 0
    is_full: bool = False

    def fullness(self) -> float:
        """The share in use; 1 or more means that no further record should come."""
        return max(len(self.entries) / self.max_records, self.size / MAX_BUFFERED_BYTES)

    def add(self, at: float, record: Record) -> None:
        self.entries.append((at, record))
        self.size += _size(record)

    def has_ready(self, moment: float) -> bool:
        """Whether the oldest record could be taken at this time."""
        return bool(self.entries) and self.entries[0][0] <= moment

    def take(self, limit: int, ready_at: float) -> list[Record]:
        records: list[Record] = []
        while len(records) < limit and self.has_ready(ready_at):
            records.append(self.entries.popleft()[1])
        self.size -= sum(map(_size, records))
        return records

    def drop(self, partitions: Set[Partition]) -> None:
        self.partitions -= partitions
        self.entries = deque(entry for entry in self.entries if entry[1].partition not in partitions)
        self.size = sum(_size(record) for _, record in self.entries)


class WriteBuffer:
    """Two queues, one for `deliveries` and one for all other topics; each partition keeps its order.

    A delivery waits a moment for its attempt, which has more data, so that one write stores both. While attempts
    come in large batches, no more deliveries are taken than attempts. The partitions of a full queue are paused until
    half of it is taken. Times are seconds of any one clock, except `wall_time`.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        *,
        linger_seconds: float = LINGER_SECONDS,
        max_buffered_records: int = MAX_BUFFERED_RECORDS,
    ) -> None:
        self._consumer = consumer
        self._linger_seconds = linger_seconds
        self._other_records = _Queue(max_buffered_records)
        self._deliveries = _Queue(max_buffered_records)
        self._busy_at = -math.inf
        self.is_closed = False

    def __len__(self) -> int:
        return len(self._other_records.entries) + len(self._deliveries.entries)

    def open(self, partitions: Iterable[Partition]) -> None:
        """Accept the records of these partitions, and read them unless their queue is full."""
        for partition in partitions:
            queue = self._queue_of(partition)
            queue.partitions.add(partition)
            (self._consumer.pause if queue.is_full else self._consumer.resume)(partition)

    def close(self) -> None:
        """Accept no more records, and hand out the others without a wait."""
        self.is_closed = True

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Drop the records of partitions that were revoked."""
        dropped_partitions = set(partitions)
        for queue in (self._other_records, self._deliveries):
            queue.drop(dropped_partitions)
        self._resume_where_half_empty()

    def add(self, records: Sequence[Record], now: float, wall_time: datetime) -> None:
        # A record after dropped ones must not be committed.
        if self.is_closed:
            return
        for record in records:
            queue = self._queue_of(record.partition)
            wait = 0.0
            if queue is self._deliveries:
                wait = self._linger_seconds - max(0.0, (wall_time - record.appended_at).total_seconds())
            queue.add(now + max(0.0, wait), record)
        for queue in (self._other_records, self._deliveries):
            if queue.fullness() >= 1:
                queue.is_full = True
                for partition in queue.partitions:
                    self._consumer.pause(partition)

    def take(self, limit: int, now: float) -> list[Record]:
        """Up to `limit` records to store now."""
        is_overdue = self._deliveries.has_ready(now - MAX_WAIT_SECONDS)
        records = self._other_records.take(limit // 2 if is_overdue else limit, now)
        if len(records) >= BUSY_RECORDS:
            self._busy_at = now
        remaining = limit - len(records)
        if not (is_overdue or self.is_closed) and now < self._busy_at + BUSY_SECONDS:
            remaining = min(remaining, len(records))
        records += self._deliveries.take(remaining, math.inf if self.is_closed else now)
        self._resume_where_half_empty()
        return records

    def next_ready_at(self) -> float | None:
        """When the next record may be taken, if nothing more arrives."""
        if self._other_records.entries:
            return self._other_records.entries[0][0]
        if not self._deliveries.entries:
            return None
        ready_at = self._deliveries.entries[0][0]
        return min(max(ready_at, self._busy_at + BUSY_SECONDS), ready_at + MAX_WAIT_SECONDS)

    def _queue_of(self, partition: Partition) -> _Queue:
        return self._deliveries if partition.topic in (DELIVERIES, BULK_DELIVERIES) else self._other_records

    def _resume_where_half_empty(self) -> None:
        for queue in (self._other_records, self._deliveries):
            if queue.is_full and queue.fullness() <= 0.5:
                queue.is_full = False
                for partition in queue.partitions:
                    self._consumer.resume(partition)


def _size(record: Record) -> int:
    return len(record.value or b"")
