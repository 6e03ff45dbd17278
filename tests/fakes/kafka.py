"""Kafka in memory: a log, and the consumers of its groups."""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime

from builders import delivery
from streams.core.deliveries.delivery import Delivery
from streams.core.errors import NewerRecord, RecordsRefused, Unavailable
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Outgoing, Partition, Record, RecordHandler
from streams.ports.runtime import Clock
from streams.stages.consuming.partition_state import PartitionState
from streams.topics import ERASURES, MAX_RECORD_BYTES, SUBSCRIPTIONS


class FakeKafka:
    """A `RecordProducer`, its records by partition, and the commits of each group.

    While it is away, producers wait. After `die_in(n)` the process dies in its n-th call to `produce`, before or
    after the records are appended: no call returns until `revive`.
    A record of more than `most_bytes` (by topic) is always refused.
    """

    def __init__(self, clock: Clock, partitions: int = 2) -> None:
        self._clock = clock
        self._partitions = partitions
        self._records: dict[Partition, list[Record]] = {}
        self._topics: defaultdict[str, list[Record]] = defaultdict(list)
        self._here = asyncio.Event()
        self._here.set()
        self._calls_left: int | None = None
        self._append_last = False
        self.groups: defaultdict[str, dict[Partition, Commit]] = defaultdict(dict)
        self.members: defaultdict[str, list[FakeRecordConsumer]] = defaultdict(list)
        self.appended: list[Callable[[], None]] = []
        self.most_bytes: defaultdict[str, int] = defaultdict(lambda: MAX_RECORD_BYTES)

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        await asyncio.sleep(0)
        await self._here.wait()
        await self._die_if_it_is_time(records)
        refused = {n: "too large" for n, record in enumerate(records) if _size(record) > self.most_bytes[record.topic]}
        appended = {n: self.append(record).appended_at for n, record in enumerate(records) if n not in refused}
        if refused:
            raise RecordsRefused(refused, appended)
        return list(appended.values())

    def append(self, outgoing: Outgoing) -> Record:
        partition = self.partition_of(outgoing)
        records = self._records.setdefault(partition, [])
        now = self._clock.now()
        record = Record(partition, len(records), outgoing.key, outgoing.value, now, tuple(outgoing.headers))
        records.append(record)
        self._topics[outgoing.topic].append(record)
        for notify in self.appended:
            notify()
        return record

    def partition_of(self, outgoing: Outgoing) -> Partition:
        partitions = self.partitions(outgoing.topic)
        return partitions[zlib.crc32(outgoing.key or b"") % len(partitions)]

    def partitions(self, topic: str) -> list[Partition]:
        return [
            Partition(topic, number) for number in range(1 if topic in (SUBSCRIPTIONS, ERASURES) else self._partitions)
        ]

    def records(self, partition: Partition) -> list[Record]:
        return self._records.get(partition, [])

    def recreate(self, partition: Partition) -> None:
        """Remove its records, as a topic that is made again has none."""
        self._records[partition].clear()

    def topic(self, name: str) -> list[Record]:
        """The topic's records in the order in which they were appended."""
        return self._topics[name]

    def leave(self) -> None:
        self._here.clear()

    def come_back(self) -> None:
        self._here.set()

    def die_in(self, calls: int, *, appended: bool = False) -> None:
        self._calls_left, self._append_last = calls, appended

    @property
    def is_dead(self) -> bool:
        return self._calls_left is not None and self._calls_left <= 0

    def revive(self) -> None:
        self._calls_left = None

    async def _die_if_it_is_time(self, records: Iterable[Outgoing]) -> None:
        if self._calls_left is None:
            return
        self._calls_left -= 1
        if self._calls_left == 0 and self._append_last:
            for record in records:
                self.append(record)
        if self.is_dead:
            await asyncio.Event().wait()


def _size(record: Outgoing) -> int:
    headers = sum(len(name) + len(value) for name, value in record.headers)
    return len(record.key or b"") + len(record.value or b"") + headers


class FakeHandler:
    """The `Handler` of a `PartitionConsumer` that awaits `work` for each record, except those of a newer release."""

    def __init__(self, work: Callable[[Record], Awaitable[None]], is_newer: bool = False) -> None:
        self._work = work
        self._is_newer = is_newer

    def read(self, record: Record) -> Delivery:
        if self._is_newer:
            raise NewerRecord("a schema of tomorrow")
        return delivery()

    async def deliver(self, record: Record, delivery: Delivery, partition: PartitionState) -> None:
        await self._work(record)


class FakeRecordConsumer:
    """A `RecordConsumer`: a member of a group on a `FakeKafka`. It commits when it leaves, unless it is killed.

    It returns at most `at_once` records of a partition at a time; `read` counts all.
    """

    def __init__(self, kafka: FakeKafka, group: str, topics: Sequence[str], at_once: int = 500) -> None:
        self._kafka = kafka
        self._partitions = [partition for topic in topics for partition in kafka.partitions(topic)]
        self._positions: dict[Partition, int] = {}
        self._more = asyncio.Event()
        self._at_once = at_once
        self.read = 0
        self._handler: RecordHandler | None = None
        self._members = kafka.members[group]
        self.committed = kafka.groups[group]
        self.paused: set[Partition] = set()
        self.away = False
        self.responses = asyncio.Event()
        self.responses.set()
        self._has_left = False

    async def run(self, handler: RecordHandler) -> None:
        self._handler = handler
        self._kafka.appended.append(self._more.set)
        self._members.append(self)
        try:
            await self._share()
            while not self._has_left:
                self._more.clear()
                while records := self._fetch():
                    self.read += len(records)
                    handler.on_received(records)
                await self._more.wait()
        finally:
            self._kafka.appended.remove(self._more.set)
            self._members.remove(self)
            await asyncio.sleep(0)  # a killed task stops here
            await self.revoke(list(self._positions))
            await self._share()
            self._handler = None
        await asyncio.Future()

    def leave(self) -> None:
        self._has_left = True
        self._more.set()

    def assign(self, partitions: Sequence[Partition]) -> None:
        assert self._handler
        for partition in partitions:
            commit = self.committed.get(partition)
            # A commit beyond the end: start at the earliest, as auto.offset.reset says.
            end = len(self._kafka.records(partition))
            self._positions[partition] = commit.offset if commit and commit.offset <= end else 0
        self._handler.on_assigned({partition: self.committed.get(partition) for partition in partitions})
        self._more.set()

    async def revoke(self, partitions: Sequence[Partition], *, is_lost: bool = False) -> None:
        assert self._handler
        for partition in partitions:
            del self._positions[partition]
            self.paused.discard(partition)
        commits = await self._handler.on_revoked(partitions, is_lost=is_lost)
        assert set(commits) <= set(partitions)
        self.committed.update(commits)

    def hand_over(self, records: Sequence[Record]) -> None:
        """Hand over records that are not in the log."""
        assert self._handler
        self._handler.on_received(records)

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        if self.away or self._handler is None:
            raise Unavailable("the coordinator is away")
        await self.responses.wait()
        for partition, commit in commits.items():
            known = self.committed.get(partition)
            is_cut = known is not None and known.offset > len(self._kafka.records(partition))
            is_rewind = self._positions.get(partition) == commit.offset
            assert known is None or is_cut or is_rewind or commit.offset >= known.offset
        self.committed.update(commits)
        await asyncio.sleep(0)

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None:
        if partition in self._positions:
            self.paused.add(partition)
            if rewind_to is not None:
                self._positions[partition] = rewind_to

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)
        self._more.set()

    def readiness_problems(self) -> list[str]:
        return []

    def _fetch(self) -> list[Record]:
        fetched: list[Record] = []
        for partition, position in self._positions.items():
            if partition not in self.paused:
                records = self._kafka.records(partition)[position : position + self._at_once]
                fetched += records
                self._positions[partition] = position + len(records)
        return fetched

    async def _share(self) -> None:
        """Assign each member its partitions, after the members before it revoked theirs."""
        parts = {
            consumer: self._partitions[index :: len(self._members)] for index, consumer in enumerate(self._members)
        }
        for consumer, part in parts.items():
            if going := [partition for partition in consumer._positions if partition not in part]:
                await consumer.revoke(going)
        for consumer, part in parts.items():
            if coming := [partition for partition in part if partition not in consumer._positions]:
                consumer.assign(coming)
