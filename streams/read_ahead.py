"""Events that were read and are not acknowledged: accounts take turns, partitions keep their order."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Generic, TypeVar

from streams.core.fair_queue import FairQueue
from streams.ports import Partition, Record

# How far a consumer reads ahead. An event takes 1.4 kB beside its key and value.
MAX_EVENTS = 32_000
MAX_BYTES = 32 * 1024 * 1024
# The cost of a batch is the number of its deliveries: those of a large batch take a tenth of a second or so. A turn is
# shorter when many accounts wait: each has one in every batch, and none waits for the turns of a hundred others.
LARGE_BATCH, SMALL_BATCH, MAX_TURN = 1000, 100, 100

Event = TypeVar("Event")


class PendingEvent(Generic[Event]):
    """An event that is not acknowledged yet."""

    __slots__ = ("event", "is_done", "record", "size")

    def __init__(self, event: Event, record: Record) -> None:
        self.event = event
        self.record = record
        self.size = len(record.key or b"") + len(record.value or b"")
        self.is_done = False


class ReadAhead(Generic[Event]):
    """Events of the assigned partitions, handled in any order and acknowledged in the order of their partition.

    `Event` is what the client acknowledges. It commits behind the last acknowledged one, so an event must not be
    acknowledged before those before it.
    """

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: FairQueue[PendingEvent[Event]] = FairQueue()
        self._partitions: dict[Partition, deque[PendingEvent[Event]]] = {}
        # What was done, but not acknowledged, when the client began to read again: offset and append time.
        self._done: dict[Partition, dict[int, datetime]] = {}
        self._events = self._bytes = 0

    def __len__(self) -> int:
        """The number of events that are not acknowledged."""
        return self._events

    @property
    def is_full(self) -> bool:
        return self._events >= self._max_events or self._bytes >= self._max_bytes

    @property
    def is_half_empty(self) -> bool:
        return self._events <= self._max_events // 2 and self._bytes <= self._max_bytes // 2

    @property
    def has_queued(self) -> bool:
        """Whether an event waits to be handled."""
        return bool(self._queue)

    def add(self, event: Event, record: Record, account_id: str) -> None:
        """Queue an event that was read."""
        pending = PendingEvent(event, record)
        self._partitions.setdefault(record.partition, deque()).append(pending)
        self._events += 1
        self._bytes += pending.size
        # The append time differs when the topic was deleted and made again.
        if self._done and self._done.get(record.partition, {}).pop(record.offset, None) == record.appended_at:
            pending.is_done = True
        else:
            self._queue.put(account_id, pending)

    def stop(self, partitions: Collection[Partition]) -> None:
        """Hand out nothing of what was read of these partitions: they may go to another member."""
        self._queue.retain(lambda pending: pending.record.partition not in partitions)

    def stop_all(self) -> None:
        """Hand out nothing of what was read."""
        self.stop(self._partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Forget what was read of these partitions. What of it is in hand is not acknowledged any more."""
        self.stop(partitions)
        for partition in partitions:
            for pending in self._partitions.pop(partition, ()):
                self._events -= 1
                self._bytes -= pending.size
            self._done.pop(partition, None)

    def restart(self, starts: Mapping[Partition, int]) -> None:
        """Forget what was read: the client has these partitions, and reads them again from these offsets on."""
        remembered_offsets = {partition: self._done.get(partition, {}) for partition in starts}
        for partition, offsets in remembered_offsets.items():
            for pending in self._partitions.get(partition, ()):
                if pending.is_done:
                    offsets[pending.record.offset] = pending.record.appended_at
        self.forget(list(self._partitions))
        self._done = {
            partition: {offset: at for offset, at in offsets.items() if offset >= starts[partition]}
            for partition, offsets in remembered_offsets.items()
        }

    def take(self, cost: Callable[[str], int], limit: int = LARGE_BATCH) -> list[PendingEvent[Event]]:
        """Take a batch: the accounts in turn, by the cost of an event of an account."""
        turn = min(MAX_TURN, limit // max(1, self._queue.owner_count))
        return self._queue.take(limit, max(1, turn), cost)

    def complete(self, batch: Iterable[PendingEvent[Event]]) -> list[Event]:
        """Note that these events are handled. Returns the events to acknowledge, in the order of each partition."""
        for pending in batch:
            pending.is_done = True
        events: list[Event] = []
        for partition in self._partitions.values():
            while partition and partition[0].is_done:
                pending = partition.popleft()
                self._events -= 1
                self._bytes -= pending.size
                events.append(pending.event)
        return events
