"""meter: count launches by account and month, exactly once, and raise `usage.threshold`."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial

from streams.core.backfill import OffsetRange
from streams.core.errors import Invalid, InvalidRecord, Refused, Unavailable
from streams.core.event import Event
from streams.core.offset_tracker import Commit
from streams.core.usage import LaunchBatch, launches_of
from streams.outage import COMMITS, DATABASE, Outages
from streams.ports import Clock, Codec, Partition, Record, RecordConsumer, Telemetry, UsageMeter
from streams.stages.consuming.stored_offsets import StoredOffsets
from streams.stages.invalid_records import run_pure
from streams.tasks import together

BATCH_RECORDS = 2000
# The partitions are paused while this many records wait, until half of them are counted.
HIGH_WATER = 8000
RETRY_SECONDS = 1.0


class Meter:
    """Reads `session-events` from the positions that are stored with the counts; offsets in Kafka follow them.

    `incarnation` tells which topic this is: one that was deleted and made again begins at its start.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        codec: Codec,
        usage: UsageMeter,
        incarnation: Callable[[], Awaitable[str]],
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
    ) -> None:
        self._consumer = consumer
        self._codec = codec
        self._usage = usage
        self._find_incarnation = incarnation
        self._clock = clock
        self._telemetry = telemetry
        self._outages = outages
        self._incarnation = ""
        # Partitions whose position is not known yet; those that are read, with the next offset to count.
        self._unopened: set[Partition] = set()
        self._next: dict[Partition, int] = {}
        # Only lag is read from these offsets: the positions are in the database.
        self._counted = StoredOffsets(consumer, telemetry, self._outages)
        self._queue: list[Record] = []
        self._is_paused = False
        self._is_closed = False
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        await together(lambda: self._consumer.run(self), self._work)

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and finish the present batch: what waits is read again. Raises `TimeoutError`."""
        self._is_closed = True
        self._arrived.set()
        await asyncio.wait_for(self._idle.wait(), seconds)

    # -- called by the consumer --------------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._unopened.update(partitions)
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))
        self._arrived.set()

    def received(self, records: Sequence[Record]) -> None:
        # Others were read before their partition was moved to its stored position.
        self._queue += [one for one in records if one.partition in self._next]
        if len(self._queue) >= HIGH_WATER and not self._is_paused:
            self._is_paused = True
            for partition in self._next:
                self._consumer.pause(partition)
        self._arrived.set()

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        self._telemetry.info("partitions_lost" if lost else "partitions_revoked", count=len(partitions))
        self._forget(partitions)
        if not lost:
            await asyncio.wait({asyncio.ensure_future(self._idle.wait())}, timeout=3)
        return {}

    def _forget(self, partitions: Sequence[Partition]) -> None:
        gone = set(partitions)
        self._unopened -= gone
        for partition in gone:
            self._next.pop(partition, None)
        self._counted.pop(gone)
        self._queue = [one for one in self._queue if one.partition not in gone]

    # -- batches ------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while True:
            self._arrived.clear()
            if self._unopened:
                await self._open(sorted(self._unopened))
            if self._queue and not self._is_closed:
                self._idle.clear()
                try:
                    await self._count(self._take())
                finally:
                    self._idle.set()
            elif not self._unopened:
                try:
                    async with asyncio.timeout(RETRY_SECONDS if self._counted else None):
                        await self._arrived.wait()
                except TimeoutError:
                    # After the last record of a day no batch follows.
                    await self._counted.commit()

    async def _open(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions from their stored positions."""
        try:
            self._incarnation = await self._find_incarnation()
            numbers = [partition.number for partition in partitions]
            stored = await self._outages.retry(
                lambda: self._usage.positions(self._incarnation, numbers), RETRY_SECONDS, DATABASE
            )
            starts = {partition: stored[partition.number] for partition in partitions}
            for partition, start in starts.items():
                self._consumer.pause(partition, rewind_to=start)
            # When this is answered, no record from before the rewind is under way any more.
            await self._consumer.commit({partition: Commit(start, "") for partition, start in starts.items()})
        except Unavailable as away:
            self._telemetry.count("commit_errors_total")
            self._outages[COMMITS].begin(self, str(away))
            await asyncio.sleep(RETRY_SECONDS)
            return
        self._outages[COMMITS].end(self)
        for partition, start in starts.items():
            # It may have been revoked meanwhile.
            if partition in self._unopened:
                self._unopened.discard(partition)
                self._next[partition] = start
                if not self._is_paused:
                    self._consumer.resume(partition)

    def _take(self) -> list[Record]:
        taken, self._queue = self._queue[:BATCH_RECORDS], self._queue[BATCH_RECORDS:]
        if self._is_paused and len(self._queue) <= HIGH_WATER // 2:
            self._is_paused = False
            for partition in self._next:
                self._consumer.resume(partition)
        return taken

    async def _count(self, records: Sequence[Record]) -> None:
        # A partition may be revoked while a part of the batch is stored.
        if not (records := [one for one in records if one.partition in self._next]):
            return
        try:
            await self._store(records, self._launches(records))
        except Refused as refused:
            if len(records) > 1:
                # Its record alone must not stop the others.
                middle = len(records) // 2
                await self._count(records[:middle])
                await self._count(records[middle:])
                return
            self._telemetry.warning("launch_not_counted", **records[0].place, why=str(refused))
            await self._store(records, LaunchBatch())

    async def _store(self, records: Sequence[Record], batch: LaunchBatch) -> None:
        # They may be lower than the start: the topic was cut, or made again. What was counted has its id.
        ends = {record.partition: record.offset + 1 for record in records if record.partition in self._next}
        moves = [OffsetRange(one.number, self._next[one], end) for one, end in ends.items()]
        new = await self._outages.retry(
            lambda: self._usage.count(self._incarnation, moves, batch.launches), RETRY_SECONDS, DATABASE
        )
        if new is None:
            # Another member counted these, or the topic was made again.
            lost = list(ends)
            self._forget(lost)
            self._unopened.update(lost)
            return
        self._telemetry.count("usage_launches_total", new)
        self._telemetry.count("usage_duplicates_total", len(batch.launches) - new)
        self._telemetry.count("usage_too_late_total", batch.too_late)
        counted = {partition: end for partition, end in ends.items() if partition in self._next}
        self._next |= counted
        self._counted.add(counted)
        await self._counted.commit()

    def _launches(self, records: Sequence[Record]) -> LaunchBatch:
        events = [event for record in records if (event := self._event(record)) is not None]
        return launches_of(events, self._clock.now())

    def _event(self, record: Record) -> Event | None:
        try:
            value = run_pure(partial(self._codec.decode, record.value or b""))
        except (InvalidRecord, Invalid):
            # fan-out stores it as invalid.
            return None
        return value if isinstance(value, Event) else None
