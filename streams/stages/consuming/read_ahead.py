"""Events that were read but are not done yet: accounts take turns, partitions keep their order."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from streams.core.queues.fair_queue import FairQueue
from streams.ports.kafka import Partition, Record

# How far a consumer reads ahead. An event takes 1.4 kB besides its key and value.
MAX_READ_AHEAD_EVENTS = 32_000
MAX_READ_AHEAD_BYTES = 32 * 1024 * 1024
# The cost of a batch is the number of its deliveries: a large batch takes about a tenth of a second. A turn is shorter
# when many accounts wait: each has one in every batch, and none waits for the turns of a hundred others.
LARGE_BATCH, SMALL_BATCH, MAX_TURN = 1000, 100, 100


class PendingEvent:
    """An event that is unhandled, or follows an unhandled one. `is_gone` means that its partition is gone too."""

    __slots__ = ("account_id", "is_done", "is_gone", "record", "size")

    def __init__(self, record: Record, account_id: str) -> None:
        self.record = record
        self.account_id = account_id
        self.size = len(record.key or b"") + len(record.value or b"")
        self.is_done = self.is_gone = False


class ReadAhead:
    """Events of the assigned partitions, handled in any order and done in the order of their partition.

    A commit points behind the last event that is done, so it must not pass one that is not.
    """

    def __init__(self, max_events: int = MAX_READ_AHEAD_EVENTS, max_bytes: int = MAX_READ_AHEAD_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._queue: FairQueue[PendingEvent] = FairQueue()
        self._partitions: dict[Partition, deque[PendingEvent]] = {}
        # Events that were handled behind an unhandled one when their partition was revoked, and not read again since:
        # offset and append time. Nearly always empty.
        self.handled: dict[Partition, dict[int, datetime]] = {}
        self._events = self._bytes = 0

    def __len__(self) -> int:
        """The number of events that are not done."""
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

    def add(self, record: Record, account_id: str) -> None:
        """Queue an event that was read."""
        pending = PendingEvent(record, account_id)
        self._partitions.setdefault(record.partition, deque()).append(pending)
        self._events += 1
        self._bytes += pending.size
        # The append time differs when the topic was deleted and made again.
        if self.handled and self._take_handled(record) == record.appended_at:
            pending.is_done = True
        else:
            self._queue.put(account_id, pending)

    def take(self, cost: Callable[[str], int], limit: int = LARGE_BATCH) -> list[PendingEvent]:
        """Take a batch: the accounts in turn, by the cost of an event of an account."""
        turn = min(MAX_TURN, limit // max(1, self._queue.owner_count))
        return self._queue.take(limit, max(1, turn), cost)

    def put_back(self, events: Sequence[PendingEvent]) -> None:
        """Queue events again that were taken but not handled, before the other events of their accounts."""
        self._queue.put_back([(pending.account_id, pending) for pending in events if not pending.is_gone])

    def complete(self, batch: Iterable[PendingEvent]) -> dict[Partition, int]:
        """Note that these events are handled. Returns the next offset of each partition that advanced."""
        for pending in batch:
            pending.is_done = True
        next_offsets: dict[Partition, int] = {}
        for partition, events in self._partitions.items():
            while events and events[0].is_done:
                pending = events.popleft()
                self._events -= 1
                self._bytes -= pending.size
                next_offsets[partition] = pending.record.offset + 1
        return next_offsets

    def stop(self, partitions: Collection[Partition]) -> None:
        """Hand out no more events of these partitions: they may go to another member."""
        self._queue.retain(lambda pending: pending.record.partition not in partitions)

    def forget(self, partitions: Collection[Partition]) -> None:
        """Forget the events of these partitions. Events in hand can no longer become done.

        Events handled behind an unhandled one are remembered until the next time: these partitions may come back.
        """
        self.stop(partitions)
        kept_partitions = {*self._partitions, *partitions}
        self.handled = {partition: at for partition, at in self.handled.items() if partition in kept_partitions}
        for partition in partitions:
            events = self._partitions.pop(partition, ())
            for pending in events:
                pending.is_gone = True
            self._events -= len(events)
            self._bytes -= sum(pending.size for pending in events)
            done = {pending.record.offset: pending.record.appended_at for pending in events if pending.is_done}
            if done:
                self.handled.setdefault(partition, {}).update(done)

    def start(self, starts: Mapping[Partition, int]) -> None:
        """Note that these partitions are read from these offsets on."""
        for partition, start in starts.items():
            handled = self.handled.pop(partition, {})
            if rest := {offset: at for offset, at in handled.items() if offset >= start}:
                self.handled[partition] = rest

    def _take_handled(self, record: Record) -> datetime | None:
        """The append time of the event that was handled at this place; None if there is none."""
        offsets = self.handled.get(record.partition, {})
        appended_at = offsets.pop(record.offset, None)
        if not offsets:
            self.handled.pop(record.partition, None)
        return appended_at
