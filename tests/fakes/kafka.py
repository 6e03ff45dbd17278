"""Kafka in memory: a log, the feeds of its groups, and the view of its webhooks."""

import asyncio
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime

from fakes.clock import FakeClock
from streams.core.delivery import ViewPosition
from streams.core.errors import Unavailable
from streams.core.ledger import Commit
from streams.core.view import SENTINEL_KEY, VERSION_HEADER, Sentinel, View
from streams.core.webhook import Webhook
from streams.ports import Codec, FeedHandler, Outgoing, Partition, Record
from streams.topics import SUBSCRIPTIONS


class FakeLog:
    """A Kafka: a `Log`, its records by partition, and what each group committed.

    Away, it makes whoever produces wait. After `die_in(n)` the n-th call to `produce` is the last thing that
    its process did, before or after the records were appended: no call returns any more until `revive`.
    """

    def __init__(self, clock: FakeClock, partitions: int = 2) -> None:
        self._clock = clock
        self._partitions = partitions
        self._records: dict[Partition, list[Record]] = {}
        self._topics: defaultdict[str, list[Record]] = defaultdict(list)
        self._here = asyncio.Event()
        self._here.set()
        self._calls_left: int | None = None
        self._append_last = False
        self.groups: defaultdict[str, dict[Partition, Commit]] = defaultdict(dict)
        self.appended: list[Callable[[], None]] = []

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        await asyncio.sleep(0)
        await self._here.wait()
        await self._live_through(records)
        return [self.append(record).appended_at for record in records]

    def append(self, outgoing: Outgoing) -> Record:
        partition = self.partition_of(outgoing)
        records = self._records.setdefault(partition, [])
        now = self._clock.now()
        record = Record(partition, len(records), outgoing.key, outgoing.value, now, tuple(outgoing.headers))
        records.append(record)
        self._topics[outgoing.topic].append(record)
        for tell in self.appended:
            tell()
        return record

    def partition_of(self, outgoing: Outgoing) -> Partition:
        partitions = self.partitions(outgoing.topic)
        return partitions[zlib.crc32(outgoing.key or b"") % len(partitions)]

    def partitions(self, topic: str) -> list[Partition]:
        return [Partition(topic, number) for number in range(1 if topic == SUBSCRIPTIONS else self._partitions)]

    def records(self, partition: Partition) -> list[Record]:
        return self._records.get(partition, [])

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

    async def _live_through(self, records: Iterable[Outgoing]) -> None:
        if self._calls_left is None:
            return
        self._calls_left -= 1
        if self._calls_left == 0 and self._append_last:
            for record in records:
                self.append(record)
        if self.is_dead:
            await asyncio.Event().wait()


class FakeFeed:
    """A `Feed`: the only member of a group on a `FakeLog`; another one goes on where this one committed."""

    def __init__(self, log: FakeLog, group: str, topics: Sequence[str]) -> None:
        self._log = log
        self._topics = topics
        self._positions: dict[Partition, int] = {}
        self._more = asyncio.Event()
        self._handler: FeedHandler | None = None
        self.committed = log.groups[group]
        self.paused: set[Partition] = set()
        self.away = False

    async def run(self, handler: FeedHandler) -> None:
        self._handler = handler
        self._log.appended.append(self._more.set)
        self.assign([partition for topic in self._topics for partition in self._log.partitions(topic)])
        try:
            while True:
                self._more.clear()
                if records := self._fetch():
                    handler.received(records)
                await self._more.wait()
        finally:
            self._log.appended.remove(self._more.set)

    def assign(self, partitions: Sequence[Partition]) -> None:
        assert self._handler
        for partition in partitions:
            commit = self.committed.get(partition)
            self._positions[partition] = commit.offset if commit else 0
        self._handler.assigned({partition: self.committed.get(partition) for partition in partitions})
        self._more.set()

    async def revoke(self, partitions: Sequence[Partition], *, lost: bool = False) -> None:
        assert self._handler
        commits = await self._handler.revoked(partitions, lost=lost)
        assert set(commits) <= set(partitions)
        for partition in partitions:
            del self._positions[partition]
            self.paused.discard(partition)
        self.committed.update(commits)

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the coordinator is away")
        for partition, commit in commits.items():
            assert partition not in self.committed or commit.offset >= self.committed[partition].offset
        self.committed.update(commits)

    def pause(self, partition: Partition, rewind_to: int | None) -> None:
        self.paused.add(partition)
        if rewind_to is not None:
            self._positions[partition] = rewind_to

    def resume(self, partition: Partition) -> None:
        self.paused.discard(partition)
        self._more.set()

    def _fetch(self) -> list[Record]:
        fetched: list[Record] = []
        for partition, position in self._positions.items():
            if partition not in self.paused:
                records = self._log.records(partition)
                fetched += records[position:]
                self._positions[partition] = max(position, len(records))
        return fetched


class FakeView:
    """`Subscriptions` and `Directory`: a `View` of what the log's topic holds."""

    def __init__(self, log: FakeLog, codec: Codec) -> None:
        self.view = View()
        self._log = log
        self._codec = codec
        self._moved = asyncio.Event()
        log.appended.append(self._moved.set)

    async def catch_up(self) -> ViewPosition:
        await self._read_until(self.view.is_complete)
        return self.view.seen

    async def wait_for(self, seen: ViewPosition) -> None:
        await self._read_until(lambda: self.view.is_complete() and self.view.has_reached(seen))

    def find(self, webhook_id: str) -> Webhook | None:
        self._read()
        return self.view.find(webhook_id)

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return self.view.of_account(account_id)

    async def _read_until(self, condition: Callable[[], bool]) -> None:
        self._read()
        while not condition():
            self._moved.clear()
            await self._moved.wait()
            self._read()

    def _read(self) -> None:
        for record in self._log.topic(SUBSCRIPTIONS)[self.view.position :]:
            self._apply(record)

    def _apply(self, record: Record) -> None:
        key = (record.key or b"").decode()
        if record.value is None:
            self.view.remove(record.offset, key, int(dict(record.headers)[VERSION_HEADER]))
        elif key == SENTINEL_KEY:
            self.view.mark(record.offset, Sentinel.decode(record.value))
        else:
            noun = self._codec.decode(record.value)
            assert isinstance(noun, Webhook)
            self.view.put(record.offset, noun, record.appended_at)
