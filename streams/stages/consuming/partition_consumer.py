"""Take records in hand when they are due, many at once, and commit what is complete."""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import cast

from streams.core.errors import Unavailable
from streams.core.offset_tracker import WINDOW_OFFSETS, Commit
from streams.ports import Clock, Partition, Record, RecordConsumer, Telemetry
from streams.stages.consuming.partition_state import TIERS_SHARE, Handler, PartitionState

REVOKE_SECONDS = 3.0
DRAIN_SECONDS = 12.0
COMMIT_EVERY_SECONDS = 0.5
# Between so many beginnings the loop looks after what was begun before. What begins together is sent together.
BEGIN_AT_ONCE = 16

# Reads a record as it arrives: many one after the other cost far less than each amid other work.
Prepare = Callable[[Record], Handler]

# Calls a function in so many seconds.
Later = Callable[[float, Callable[[], None]], object]


class PartitionConsumer:
    """A feed's handler: due? → open in the ledger → work → complete → commit.

    A partition stands still while its head is not due, its window is full, or `max_open` records are in hand and
    what came with the last of them (retry tiers stop at three quarters, tests never); nothing sleeps, and of what was
    fetched behind a head that is not due a little is kept and the rest read again. Work that is cancelled leaves its
    record to whoever reads it next. `later` is the loop's timer unless another one is given.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        take: Prepare,
        clock: Clock,
        telemetry: Telemetry,
        max_open: int = 4000,
        later: Later | None = None,
    ) -> None:
        self._consumer = consumer
        self._take = take
        self._clock = clock
        self._telemetry = telemetry
        self._max_open = max_open
        self._later: Later = later or asyncio.get_running_loop().call_later
        self._open = 0
        self._full = False
        self._draining = False
        self._lanes: dict[Partition, PartitionState] = {}
        self._turns: deque[PartitionState] = deque()
        self._beginning = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until cancelled; raises what an unexpected failure of the work raised, with that record uncommitted."""
        consumer = asyncio.create_task(self._consumer.run(self))
        committer = asyncio.create_task(self._commit_regularly())
        try:
            await asyncio.wait({consumer, committer, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            for done in (self._failure, consumer, committer):
                if done.done():
                    await done
        finally:
            committer.cancel()
            consumer.cancel()
            await asyncio.gather(consumer, committer, return_exceptions=True)

    async def drain(self, seconds: float = DRAIN_SECONDS) -> None:
        """Take nothing more, finish what is in hand within `seconds`, and commit it."""
        self._draining = True
        for lane in self._lanes.values():
            self._leave(lane)
        await _settle(list(self._lanes.values()), seconds)
        await self._commit()

    # -- what the feed tells ----------------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        for partition, committed in partitions.items():
            self._lanes[partition] = PartitionState(self._consumer, partition, committed)
        self._telemetry.info("partitions assigned", count=len(partitions))

    def received(self, records: Sequence[Record]) -> None:
        if self._draining:
            return
        for record in records:
            lane = self._lanes.get(record.partition)
            if lane is not None:
                self._receive(lane, record)
        self._hold_back()
        self._begin_soon()

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        lanes = [lane for partition in partitions if (lane := self._lanes.pop(partition, None))]
        for lane in lanes:
            lane.closed = True
            self._leave(lane)
        self._make_room()
        self._telemetry.info("partitions lost" if lost else "partitions revoked", count=len(lanes))
        if lost:
            return {}
        await _settle(lanes, REVOKE_SECONDS)
        return {lane.partition: commit for lane in lanes if (commit := lane.ledger.pending())}

    # -- one record -------------------------------------------------------------------------------------------

    def _receive(self, lane: PartitionState, record: Record) -> None:
        if lane.early:
            lane.keep(record)
        elif not lane.stops:  # what follows a record at which the lane stopped is read again
            self._admit(lane, record)

    def _admit(self, lane: PartitionState, record: Record) -> None:
        if lane.wait is not None:
            early = (record.appended_at + lane.wait - self._clock.now()).total_seconds()
            if early > 0:
                lane.stop("due")
                lane.keep(record)
                self._later(early + 0.001, partial(self._go_on, lane, "due"))
                return
        if not lane.ledger.has_room(record.offset):
            lane.stop("window", record.offset)
        elif lane.ledger.open(record.offset):
            self._open += 1
            if not lane.arrived:
                self._turns.append(lane)
            lane.arrived.append((record.offset, self._take(record)))

    def _take_up(self, lane: PartitionState) -> None:
        """Go on with what was kept, and then read on; where too much is in hand, later.

        It stops this lane only, which stands still: of any other the feed may have records on their way.
        """
        if self._has_its_share(lane):
            self._full = True
            lane.stop("budget")
            return
        early, lane.early = lane.early, deque()
        try:
            for record in early:
                self._receive(lane, record)
        except Exception as unexpected:
            self._fail(unexpected)
            return
        if not lane.stops:
            lane.read_on()
        self._begin_soon()

    def _hold_back(self) -> None:
        """Read no further where too much is in hand: what has arrived is kept, for to read it again costs more."""
        for lane in self._lanes.values() if self._open >= TIERS_SHARE * self._max_open else ():
            if self._has_its_share(lane):
                self._full = True
                lane.stop("budget")

    def _has_its_share(self, lane: PartitionState) -> bool:
        return self._open >= lane.share * self._max_open

    def _begin_soon(self) -> None:
        if not self._beginning:
            self._begin()

    def _begin(self) -> None:
        """Begin some of what arrived, a record of each partition in turn, and the others in the loop's next round."""
        for _ in range(BEGIN_AT_ONCE):
            if not self._turns:
                break
            lane = self._turns.popleft()
            task = asyncio.create_task(self._attend(lane, *lane.arrived.popleft()))
            lane.tasks.add(task)
            if lane.arrived:
                self._turns.append(lane)
        self._beginning = bool(self._turns)
        if self._beginning:
            asyncio.get_running_loop().call_soon(self._begin)

    def _leave(self, lane: PartitionState) -> None:
        """What was not begun stays uncommitted, for whoever reads it next."""
        if lane.arrived:
            self._turns.remove(lane)
            self._open -= len(lane.arrived)
            lane.arrived.clear()
        lane.early.clear()

    async def _attend(self, lane: PartitionState, offset: int, work: Handler) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            await work(lambda: not lane.closed)
        except asyncio.CancelledError:
            return
        except Exception as unexpected:
            self._fail(unexpected)
            return
        finally:
            self._open -= 1
            lane.tasks.discard(task)
        lane.ledger.complete(offset)
        if "window" in lane.stops and lane.ledger.has_room(lane.stopped_at + WINDOW_OFFSETS // 2):
            self._go_on(lane, "window")
        self._make_room()

    def _fail(self, unexpected: Exception) -> None:
        if not self._failure.done():
            self._failure.set_exception(unexpected)

    def _make_room(self) -> None:
        if self._full and self._open <= self._max_open // 2:
            self._full = False
            for other in self._lanes.values():
                self._go_on(other, "budget")

    def _go_on(self, lane: PartitionState, reason: str) -> None:
        if reason in lane.stops:
            lane.stops.remove(reason)
            if not (lane.stops or lane.closed or self._draining):
                self._take_up(lane)

    # -- commits ----------------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_SECONDS)
            self._telemetry.gauge("records_open", self._open)
            await self._commit()

    async def _commit(self) -> None:
        lanes = {lane.partition: lane for lane in self._lanes.values()}
        commits = {partition: commit for partition, lane in lanes.items() if (commit := lane.ledger.pending())}
        if not commits:
            return
        try:
            await self._consumer.commit(commits)
        except Unavailable as away:
            # What is not committed is done again after a restart: repeats, no loss.
            self._telemetry.info("commit failed", why=str(away))
            return
        for partition, commit in commits.items():
            lanes[partition].ledger.committed(commit)


async def _settle(lanes: Sequence[PartitionState], seconds: float) -> None:
    tasks = [task for lane in lanes for task in lane.tasks]
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)
