"""record: make visible in SQL what happened to each delivery, count health, pause."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.errors import Invalid, Refused, Unavailable, Unreadable
from streams.core.ledger import Commit
from streams.core.network import OwnNetwork
from streams.core.standing import Fact, fold, stripped
from streams.ports import Clock, Codec, Feed, Log, Partition, Record, Recorder, Report
from streams.stages.inbox import Inbox
from streams.stages.invalid import park, tried

# What is done once for each webhook of a batch, such as counting its health, is done less often for a large one.
BATCH_RECORDS = 2000
RETRY_SECONDS = 1.0


class RecordStage:
    """A feed's handler: batches go to SQL in partition order, offsets are committed after the transaction."""

    def __init__(self, feed: Feed, codec: Codec, recorder: Recorder, log: Log, clock: Clock, report: Report) -> None:
        self._feed = feed
        self._codec = codec
        self._recorder = recorder
        self._log = log
        self._clock = clock
        self._report = report
        self._network = OwnNetwork()
        self._network_is_down = False
        self._inbox = Inbox(feed)
        self._owned: set[Partition] = set()
        # Where to read on, for what is stored and not known to be committed.
        self._stored: dict[Partition, Commit] = {}
        self._now = asyncio.get_running_loop().time
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        feed = asyncio.create_task(self._feed.run(self))
        writer = asyncio.create_task(self._write_regularly())
        try:
            done, _ = await asyncio.wait({feed, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            feed.cancel()
            writer.cancel()
            await asyncio.gather(feed, writer, return_exceptions=True)

    async def drain(self, seconds: float) -> None:
        """Take nothing more and store what has come; raises `TimeoutError` when that takes longer."""
        self._inbox.close()
        self._arrived.set()
        await asyncio.wait_for(self._drained.wait(), seconds)

    # -- what the feed tells ----------------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._inbox.open(partitions)
        self._owned.update(partitions)
        self._report.tell("partitions assigned", count=len(partitions))

    def received(self, records: Sequence[Record]) -> None:
        self._inbox.add(records, self._now(), self._clock.now())
        self._arrived.set()

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        self._inbox.forget(partitions)
        self._report.tell("partitions lost" if lost else "partitions revoked", count=len(partitions))
        if not lost:
            # Waiting for the batch in hand spares the next member its records.
            await asyncio.wait({asyncio.ensure_future(self._idle.wait())}, timeout=3)
        self._owned.difference_update(partitions)
        ends = {partition: end for partition in partitions if (end := self._stored.pop(partition, None))}
        return {} if lost else ends

    # -- batches ----------------------------------------------------------------------------------------------

    async def _write_regularly(self) -> None:
        while True:
            self._arrived.clear()
            if batch := self._inbox.take(BATCH_RECORDS, self._now()):
                self._idle.clear()
                try:
                    await self._write(batch)
                finally:
                    self._idle.set()
                await self._commit()
            elif self._inbox.closed:
                self._drained.set()
                await self._arrived.wait()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._inbox.next_at()):
                        await self._arrived.wait()

    async def _write(self, records: Sequence[Record]) -> None:
        facts, unreadable = self._read(records)
        self._look_at_the_network(facts)
        if unreadable:
            await park(self._log, self._report, unreadable)
        await self._store(facts)
        ends = {record.partition: Commit(record.offset + 1, "") for record in records}
        self._stored |= {partition: end for partition, end in ends.items() if partition in self._owned}

    async def _commit(self) -> None:
        ends = dict(self._stored)
        if not ends:
            return
        try:
            await self._feed.commit(ends)
        except Unavailable as away:
            self._report.tell("commit failed", why=str(away))
            return
        for partition, end in ends.items():
            if self._stored.get(partition) == end:
                del self._stored[partition]

    def _read(self, records: Sequence[Record]) -> tuple[list[Fact], list[tuple[Record, str]]]:
        facts: list[Fact] = []
        unreadable: list[tuple[Record, str]] = []
        for record in records:
            try:
                facts.append(tried(partial(self._fact, record)))
            except (Unreadable, Invalid) as wrong:
                unreadable.append((record, str(wrong)))
        if unreadable:
            self._report.count("records_unreadable_total", len(unreadable))
        return facts, unreadable

    def _fact(self, record: Record) -> Fact:
        noun = self._codec.decode(record.value or b"")
        if not isinstance(noun, Delivery | Attempt | DeadLetter):
            raise Unreadable(f"a {type(noun).__name__.lower()} does not belong here")
        return Fact(noun, record.appended_at)

    def _look_at_the_network(self, facts: Sequence[Fact]) -> None:
        self._network.learn(fact.noun for fact in facts if isinstance(fact.noun, Attempt))
        is_down = self._network.is_down()
        if is_down != self._network_is_down:
            words = "our own network seems to be down: no webhook is blamed" if is_down else "our own network is back"
            self._report.tell(words)
        self._network_is_down = is_down
        self._report.gauge("own_network_down", is_down)

    async def _store(self, facts: Sequence[Fact]) -> None:
        """Record the facts; a row that the database refuses is found by halving and never stops the others."""
        if not facts:
            return
        try:
            await self._until_available(facts)
        except Refused as wrong:
            if len(facts) > 1:
                middle = len(facts) // 2
                await self._store(facts[:middle])
                await self._store(facts[middle:])
                return
            await self._store_stripped(facts[0], wrong)
        else:
            self._report.count("facts_recorded_total", len(facts))

    async def _store_stripped(self, fact: Fact, wrong: Refused) -> None:
        self._report.count("facts_refused_total")
        self._report.tell("fact refused by the database; stored stripped", why=str(wrong))
        try:
            await self._until_available([stripped(fact)])
        except Refused as still_wrong:
            self._report.tell("fact refused by the database even stripped", why=str(still_wrong))

    async def _until_available(self, facts: Sequence[Fact]) -> None:
        batch = replace(fold(facts), own_network_is_down=self._network_is_down)
        told = False
        while True:
            try:
                await self._recorder.record(batch)
            except Unavailable as away:
                if not told:
                    self._report.tell("database unavailable; waiting", why=str(away))
                told = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if told:
                    self._report.tell("database available again")
                return
