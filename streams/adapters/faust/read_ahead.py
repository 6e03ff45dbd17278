"""Events that Faust has handed over and that are not acknowledged: accounts take turns, partitions keep their order."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from streams.core.fair_queue import FairQueue
from streams.ports import Record

# How far the stage reads ahead. An event takes 1.4 kB beside its key and value.
MAX_EVENTS = 32_000
MAX_BYTES = 32 * 1024 * 1024
# The cost of a batch is the number of its deliveries: those of a large batch take a tenth of a second or so.
LARGE_BATCH, SMALL_BATCH, TURN = 1000, 100, 100


class PendingEvent:
    """An event that is not acknowledged yet."""

    __slots__ = ("event", "is_done", "partition", "record", "size")

    def __init__(self, event: Any, record: Record, partition: "deque[PendingEvent]") -> None:
        self.event = event
        self.record = record
        self.partition = partition
        self.size = len(record.key or b"") + len(record.value or b"")
        self.is_done = False


class ReadAhead:
    """Events of the assigned partitions, handled in any order and acknowledged in the order of their partition.

    Faust commits behind the last acknowledged event, so one must not be acknowledged before those before it.
    """

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: FairQueue[PendingEvent] = FairQueue()
        self._partitions: dict[int, deque[PendingEvent]] = {}
        # What was done, but not acknowledged, when Faust began to read again: offset and append time.
        self._done: dict[int, dict[int, datetime]] = {}
        self._events = self._bytes = 0

    def __len__(self) -> int:
        """The number of events that are not acknowledged."""
        return self._events

    @property
    def is_full(self) -> bool:
        return self._events >= self._max_events or self._bytes >= self._max_bytes

    @property
    def has_queued(self) -> bool:
        """Whether an event waits to be handled."""
        return bool(self._queue)

    def add(self, event: Any, record: Record, account_id: str) -> None:
        """Queue an event that was read."""
        number = record.partition.number
        partition = self._partitions.setdefault(number, deque())
        pending = PendingEvent(event, record, partition)
        partition.append(pending)
        self._events += 1
        self._bytes += pending.size
        # The append time differs when the topic was deleted and made again.
        if self._done.get(number, {}).pop(record.offset, None) == record.appended_at:
            pending.is_done = True
        else:
            self._queue.put(account_id, pending)

    def stop(self) -> None:
        """Hand out nothing of what was read until now: its partitions may go to another member."""
        self._queue = FairQueue()

    def restart(self, starts: Mapping[int, int]) -> None:
        """Forget what was read: Faust reads these partitions again, from these offsets on."""
        remembered = {number: self._done.get(number, {}) for number in starts}
        for number, done in remembered.items():
            for pending in self._partitions.get(number, ()):
                if pending.is_done:
                    done[pending.record.offset] = pending.record.appended_at
        self._done = {
            number: {offset: at for offset, at in done.items() if offset >= starts[number]}
            for number, done in remembered.items()
        }
        self._partitions = {}
        self._events = self._bytes = 0
        self.stop()

    def take(self, cost: Callable[[str], int], limit: int = LARGE_BATCH) -> list[PendingEvent]:
        """Take a batch: the accounts in turn, by the cost of an event of an account."""
        return self._queue.take(limit, TURN, cost)

    def complete(self, batch: Iterable[PendingEvent]) -> list[Any]:
        """Note that these events are handled. Returns the events to acknowledge, in order."""
        for pending in batch:
            pending.is_done = True
        ready: list[Any] = []
        for partition in self._partitions.values():
            while partition and partition[0].is_done:
                pending = partition.popleft()
                self._events -= 1
                self._bytes -= pending.size
                ready.append(pending.event)
        return ready
