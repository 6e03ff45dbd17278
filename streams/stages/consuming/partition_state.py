"""One assigned partition: its offsets, the records that wait, and the reasons why it is paused."""

import asyncio
import math
import time
from collections import deque
from datetime import timedelta
from enum import Enum, auto
from typing import Protocol

from streams.core.deliveries.delivery import Delivery
from streams.core.errors import RecordAbandoned
from streams.core.records.offset_tracker import Commit, OffsetTracker
from streams.ports.kafka import Partition, Record, RecordConsumer
from streams.topics import BULK_DELIVERIES, TEST_DELIVERIES, tier_of

# Records of a tier that came before they are due: this many are kept; the others are fetched again. A rewind costs a
# fetch, during which the consumer reads no other partition.
MAX_NOT_DUE_RECORDS = 50
# The part of the budget of open records at which tiers and the bulk are paused. They are read again at half of it: with
# less between the two, a client would repeatedly drop what it has fetched.
LOW_PRIORITY_BUDGET_SHARE = 0.75


class PartitionPause(Enum):
    """Why a partition is not read at the moment."""

    NOT_DUE = auto()
    WINDOW_FULL = auto()
    OVER_BUDGET = auto()
    # Until another process, of a newer release, gets the partition.
    NEWER_RECORD = auto()


class PartitionState:
    """One assignment of a partition; `budget_share` is the part of the budget at which it is paused."""

    def __init__(self, consumer: RecordConsumer, partition: Partition, commit: Commit | None) -> None:
        tier = tier_of(partition.topic)
        self._consumer = consumer
        self._is_paused = self._is_rewound = False
        self.partition = partition
        # By `time.monotonic`.
        self.assigned_at = time.monotonic()
        self.tier_wait: timedelta | None = tier.wait if tier else None
        self.budget_share = _budget_share(partition.topic)
        self.offsets = OffsetTracker(commit.offset, commit.metadata) if commit else OffsetTracker()
        self.pause_reasons: set[PartitionPause] = set()
        self.paused_at_offset = 0
        self.newer_record_problem: str | None = None
        self.not_due_records: deque[Record] = deque()
        # Records that are due and wait for their account's turn.
        self.queued_count = 0
        self.tasks: set[asyncio.Task[None]] = set()
        self.is_revoked = False
        # Handlers that wait for their turn, and have begun nothing that must end.
        self.waiting: set[asyncio.Future[None]] = set()
        # The number of the last batch that had a record of this partition.
        self.last_batch_number = 0
        # Whether a record was completed since the last commit.
        self.has_progress = False

    def revoke(self) -> None:
        """The partition belongs to another process: abandon the handlers that wait for their turn."""
        self.is_revoked = True
        for future in self.waiting:
            if not future.done():
                future.set_exception(RecordAbandoned())

    def pause(self, reason: PartitionPause, rewind_to: int | None = None) -> None:
        """Read no further; with `rewind_to` the records from that offset on are fetched again.

        Call it while received records are handled, or while the partition is paused: records on their way would be
        lost otherwise.
        """
        if rewind_to is not None:
            self.paused_at_offset = rewind_to
        if rewind_to is not None or not self._is_paused:
            self._is_paused = True
            self._consumer.pause(self.partition, rewind_to)
        self.pause_reasons.add(reason)

    def keep_not_due(self, record: Record) -> None:
        """Keep a record that is not due, or that follows one; beyond a limit it is fetched again later."""
        if len(self.not_due_records) < MAX_NOT_DUE_RECORDS:
            self.not_due_records.append(record)
        elif not self._is_rewound:
            self._is_rewound = True
            self._consumer.pause(self.partition, record.offset)

    def resume(self) -> None:
        self._is_paused = self._is_rewound = False
        self._consumer.resume(self.partition)


class Handler(Protocol):
    """Handles records, each on its own."""

    def read(self, record: Record) -> Delivery:
        """Decode a record. Many decoded in a row cost far less than each between other work.

        Raises `InvalidRecord`, and `NewerRecord` for the record of a newer release.
        """

    async def deliver(self, record: Record, delivery: Delivery, partition: PartitionState) -> None:
        """Handle a record.

        Returns when every record that follows is acknowledged. Raises `InvalidRecord` and `RecordAbandoned`.
        """


def _budget_share(topic: str) -> float:
    if topic == TEST_DELIVERIES:
        return math.inf
    return LOW_PRIORITY_BUDGET_SHARE if topic == BULK_DELIVERIES or tier_of(topic) else 1.0
