"""A partition in hand: its ledger, what of it waits, and why it stands still."""

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import timedelta

from streams.core.offset_tracker import Commit, OffsetTracker
from streams.ports import Partition, Record, RecordConsumer
from streams.topics import TEST_DELIVERIES, tier_of

# Of a tier's partition so many records that came early are kept until they are due, and not read again: to go back
# costs a fetch, and all others wait while the consumer does it.
EARLY_KEPT = 50
TIERS_SHARE = 0.75

# Whether a record is still this process's to attend to: its partition may have gone to another.
StillAssigned = Callable[[], bool]
# What there is to do for a record, once its turn has come.
Handler = Callable[[StillAssigned], Awaitable[None]]


class PartitionState:
    """One assignment of a partition; `share` is how much of the budget may be used when it is still read."""

    def __init__(self, consumer: RecordConsumer, partition: Partition, committed: Commit | None) -> None:
        tier = tier_of(partition.topic)
        self._consumer = consumer
        self._is_paused = self._is_rewound = False
        self.partition = partition
        self.wait: timedelta | None = tier.wait if tier else None
        self.share = math.inf if partition.topic == TEST_DELIVERIES else TIERS_SHARE if tier else 1.0
        self.ledger = OffsetTracker(committed.offset, committed.metadata) if committed else OffsetTracker()
        self.stops: set[str] = set()
        self.stopped_at = 0
        self.early: deque[Record] = deque()
        self.arrived: deque[tuple[int, Handler]] = deque()
        self.tasks: set[asyncio.Task[None]] = set()
        self.closed = False

    def stop(self, reason: str, offset: int | None = None) -> None:
        """Read no further; `offset` is the first of what arrived and is to be read again.

        To be called with what the feed hands over, or while the lane stands still: what is on its way would be lost.
        """
        if offset is not None:
            self.stopped_at = offset
        if offset is not None or not self._is_paused:
            self._is_paused = True
            self._consumer.pause(self.partition, offset)
        self.stops.add(reason)

    def keep(self, record: Record) -> None:
        """A record that is not due, or stands behind one: keep it, or read it again."""
        if len(self.early) < EARLY_KEPT:
            self.early.append(record)
        elif not self._is_rewound:
            self._is_rewound = True
            self._consumer.pause(self.partition, record.offset)

    def read_on(self) -> None:
        self._is_paused = self._is_rewound = False
        self._consumer.resume(self.partition)
