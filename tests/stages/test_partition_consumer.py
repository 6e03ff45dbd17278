"""Records are taken in hand when they are due and there is room, and committed when they are complete."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from fakes import FakeClock, FakeKafka, FakeRecordConsumer, FakeTelemetry, cancel_others, quiet, until
from streams.core.offset_tracker import WINDOW_OFFSETS, Commit, OffsetTracker
from streams.ports import Outgoing, Partition, Record
from streams.stages.consuming import partition_consumer as partition_consumer_module
from streams.stages.consuming import partition_state
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.stages.consuming.partition_state import Handler, StillAssigned
from streams.topics import DELIVERIES, TEST_DELIVERIES

RETRY = "deliveries.retry.30s"
NEW, LATE = Partition(DELIVERIES, 0), Partition(RETRY, 0)


@pytest.fixture(autouse=True)
def _commits_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_consumer_module, "COMMIT_EVERY_SECONDS", 0)


class ConsumerFixture:
    """An intake whose work waits for `finish`, on a log with a topic of new records and a tier of 30 s."""

    def __init__(self, kafka: FakeKafka, clock: FakeClock, max_open: int, at_once: int) -> None:
        self.kafka = kafka
        self.clock = clock
        self.telemetry = FakeTelemetry()
        self.consumer = FakeRecordConsumer(kafka, "deliver", [DELIVERIES, TEST_DELIVERIES, RETRY], at_once)
        self.takes_fail = False
        self.partition_consumer = PartitionConsumer(
            self.consumer, self._take, clock, self.telemetry, max_open, clock.later
        )
        self.running = asyncio.create_task(self.partition_consumer.run())
        self.begun: list[Record] = []
        self._results: dict[tuple[Partition, int], asyncio.Future[None]] = {}

    def add(self, count: int = 1, topic: str = DELIVERIES) -> None:
        for _ in range(count):
            self.kafka.append(Outgoing(topic, None, b"delivery"))

    def begun_of(self, partition: Partition) -> list[int]:
        return [record.offset for record in self.begun if record.partition == partition]

    def finish(self, *offsets: int, partition: Partition = NEW) -> None:
        for offset in offsets:
            self._results[partition, offset].set_result(None)

    def fail(self, offset: int, error: Exception) -> None:
        self._results[NEW, offset].set_exception(error)

    def is_committed(self, offset: int) -> bool:
        commit = self.consumer.committed.get(NEW, Commit(0, ""))
        return offset < commit.offset or not OffsetTracker(commit.offset, commit.metadata).open(offset)

    def _take(self, record: Record) -> Handler:
        if self.takes_fail:
            raise RuntimeError("a bug")
        return partial(self._work, record)

    async def _work(self, record: Record, still_assigned: StillAssigned) -> None:
        self.still_assigned = still_assigned
        self.begun.append(record)
        result = asyncio.get_running_loop().create_future()
        self._results[record.partition, record.offset] = result
        await result


@asynccontextmanager
async def consumer_fixture(
    kafka: FakeKafka | None = None, clock: FakeClock | None = None, max_open: int = 4000, at_once: int = 500
) -> AsyncIterator[ConsumerFixture]:
    clock = clock or FakeClock()
    yield ConsumerFixture(kafka or FakeKafka(clock, partitions=1), clock, max_open, at_once)
    await cancel_others()


async def begun_of_eight(it: ConsumerFixture, ending: Coroutine[Any, Any, object]) -> int:
    """How many of eight records were begun when `ending` came between; those are finished, the others were not."""
    it.add(8)
    await until(lambda: len(it.begun) == 2)
    ended = asyncio.create_task(ending)
    await quiet()
    begun = it.begun_of(NEW)
    it.finish(*begun)
    await ended
    assert len(begun) < 8
    return len(begun)


# -- due times -----------------------------------------------------------------------------------------------


async def test_a_new_record_is_taken_at_once() -> None:
    async with consumer_fixture() as it:
        it.add()
        await quiet()
        assert it.begun_of(NEW) == [0]


async def test_a_record_of_a_tier_is_never_taken_early_and_never_late() -> None:
    async with consumer_fixture() as it:
        it.add(topic=RETRY)
        await quiet()
        it.clock.advance(29.99)
        await quiet()
        assert it.begun_of(LATE) == []
        it.clock.advance(0.02)
        await quiet()
        assert it.begun_of(LATE) == [0]


async def test_an_almost_due_record_waits_for_the_rest() -> None:
    async with consumer_fixture() as it:
        it.add(topic=RETRY)
        it.clock.advance(29.5)
        await quiet()
        assert it.begun_of(LATE) == []
        it.clock.advance(0.51)
        await quiet()
        assert it.begun_of(LATE) == [0]


async def test_records_behind_one_that_is_not_due_keep_their_order() -> None:
    async with consumer_fixture() as it:
        for _ in range(3):
            it.add(2, topic=RETRY)
            it.clock.advance(10)
        await quiet()
        for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
            it.clock.advance(0.01)
            await quiet()
            assert it.begun_of(LATE) == expected
            it.clock.advance(9.99)
            await quiet()


async def test_what_is_read_early_is_not_read_again() -> None:
    async with consumer_fixture() as it:
        for _ in range(10):
            it.add(topic=RETRY)
            it.clock.advance(1)
        await quiet()
        for number in range(10):
            it.clock.advance(20.01 if number == 0 else 1)
            await quiet()
            assert it.begun_of(LATE) == list(range(number + 1))
        assert it.consumer.read == 10
        assert it.consumer.paused == set()


async def test_many_early_records_are_each_handled_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_state, "NOT_DUE_KEPT", 3)
    async with consumer_fixture() as it:
        for _ in range(10):
            it.add(topic=RETRY)
            it.clock.advance(1)
        await quiet()
        assert it.consumer.read == 10
        it.clock.advance(22.01)  # the first three are due, and so is nothing behind them
        await quiet()
        assert it.begun_of(LATE) == [0, 1, 2]
        it.clock.advance(10)
        await quiet()
        assert it.begun_of(LATE) == list(range(10))
        assert it.consumer.paused == set()


async def test_kept_records_are_left_to_the_next_owner() -> None:
    async with consumer_fixture() as it:
        it.add(3, topic=RETRY)
        await quiet()
        await it.consumer.revoke([LATE])
        it.clock.advance(31)
        await quiet()
        assert it.begun == []
        it.consumer.assign([LATE])
        await quiet()
        assert it.begun_of(LATE) == [0, 1, 2]


async def test_a_bug_in_a_kept_record_ends_the_run_uncommitted() -> None:
    async with consumer_fixture() as it:
        it.add(2, topic=RETRY)
        await quiet()
        it.takes_fail = True
        it.clock.advance(31)
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(it.running, 10)
        assert LATE not in it.consumer.committed


async def test_what_was_kept_waits_while_the_budget_is_used_up() -> None:
    async with consumer_fixture(max_open=8, at_once=8) as it:
        it.add(2, topic=RETRY)
        await quiet()
        it.add(8)
        await until(lambda: len(it.begun) == 8)
        it.clock.advance(31)
        await quiet()
        assert it.begun_of(LATE) == []
        it.finish(*range(8))
        await quiet()
        assert it.begun_of(LATE) == [0, 1]
        assert it.consumer.read == 10


async def test_a_used_budget_loses_no_records() -> None:
    async with consumer_fixture(max_open=8) as it:
        it.add(3, topic=RETRY)
        await quiet()
        it.add(5)
        await until(lambda: len(it.begun) == 5)
        # A consumer reads in a thread of its own: these are on their way when the retries fall due.
        it.add(3)
        on_their_way = it.consumer._fetch()
        it.clock.advance(31)
        it.partition_consumer.received(on_their_way)
        await quiet()
        it.finish(*range(5))
        await quiet()
        assert it.begun_of(NEW) == list(range(8))
        assert it.begun_of(LATE) == [0, 1, 2]


async def test_kept_records_wait_for_the_window() -> None:
    async with consumer_fixture(max_open=10 * WINDOW_OFFSETS) as it:
        it.add(WINDOW_OFFSETS, topic=RETRY)
        it.clock.advance(31)
        await until(lambda: len(it.begun) == WINDOW_OFFSETS)
        it.finish(*range(1, WINDOW_OFFSETS), partition=LATE)
        it.add(5, topic=RETRY)
        await quiet()
        it.clock.advance(31)
        await quiet()
        assert len(it.begun) == WINDOW_OFFSETS
        it.finish(0, partition=LATE)
        await until(lambda: len(it.begun) == WINDOW_OFFSETS + 5)
        assert it.begun_of(LATE) == list(range(WINDOW_OFFSETS + 5))


async def test_a_tier_that_waits_holds_nobody_else_up() -> None:
    async with consumer_fixture() as it:
        it.add(topic=RETRY)
        await quiet()
        it.add(3)
        await quiet()
        assert it.consumer.paused == {LATE}
        assert it.begun_of(NEW) == [0, 1, 2]


# -- commits -------------------------------------------------------------------------------------------------


async def test_many_records_are_in_hand_at_once_and_end_in_any_order() -> None:
    async with consumer_fixture() as it:
        it.add(4)
        await quiet()
        assert it.begun_of(NEW) == [0, 1, 2, 3]
        it.finish(3, 1)
        await until(lambda: it.is_committed(3))
        assert [it.is_committed(offset) for offset in range(4)] == [False, True, False, True]
        it.finish(0, 2)
        await until(lambda: it.consumer.committed.get(NEW) == Commit(4, ""))


async def test_a_restart_repeats_only_uncommitted_records() -> None:
    async with consumer_fixture() as before:
        before.add(4)
        await quiet()
        before.finish(1, 2)
        await until(lambda: before.is_committed(2))
    async with consumer_fixture(before.kafka, before.clock) as after:
        await quiet()
        assert after.begun_of(NEW) == [0, 3]


async def test_a_failed_commit_is_logged_and_repeated() -> None:
    async with consumer_fixture() as it:
        it.consumer.away = True
        it.add()
        await quiet()
        it.finish(0)
        await until(lambda: it.telemetry.logged_count("commit_failed") > 0)
        assert it.consumer.committed == {}
        it.consumer.away = False
        await until(lambda: it.consumer.committed.get(NEW) == Commit(1, ""))


async def test_an_unexpected_failure_leaves_its_record_uncommitted() -> None:
    async with consumer_fixture() as it:
        it.add(2)
        await quiet()
        it.finish(1)
        await until(lambda: it.is_committed(1))
        it.fail(0, RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            await it.running
        assert not it.is_committed(0)


# -- room ----------------------------------------------------------------------------------------------------


async def test_a_stuck_record_stops_its_partition_after_a_window() -> None:
    async with consumer_fixture(max_open=10 * WINDOW_OFFSETS) as it:
        it.add(WINDOW_OFFSETS + 5)
        await until(lambda: len(it.begun) == WINDOW_OFFSETS)
        it.finish(*range(1, WINDOW_OFFSETS))
        await quiet()
        assert len(it.begun) == WINDOW_OFFSETS
        it.finish(0)
        await until(lambda: len(it.begun) == WINDOW_OFFSETS + 5)
        assert it.begun_of(NEW) == list(range(WINDOW_OFFSETS + 5))


async def test_no_more_records_are_in_hand_than_the_budget_allows() -> None:
    async with consumer_fixture(max_open=8, at_once=1) as it:
        it.add(20)
        await quiet()
        assert it.begun_of(NEW) == list(range(8))
        it.finish(0, 1, 2)
        await quiet()
        assert len(it.begun) == 8
        it.finish(3)
        await quiet()
        assert it.begun_of(NEW) == list(range(12))


async def test_what_arrives_together_is_handled_together() -> None:
    async with consumer_fixture(max_open=8, at_once=6) as it:
        it.add(20)
        await until(lambda: len(it.begun) == 12)
        await quiet()
        assert it.consumer.paused == {NEW, LATE}
        it.finish(*range(8))
        await until(lambda: len(it.begun) == 18)
        it.finish(*range(8, 18))
        await until(lambda: len(it.begun) == 20)
        assert it.consumer.read == 20


async def test_paused_partitions_resume_within_the_budget(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_consumer_module, "START_AT_ONCE", 1)
    monkeypatch.setattr(partition_consumer_module, "REVOKE_SECONDS", 0)
    async with consumer_fixture(max_open=8) as it:
        it.add(8)
        await until(lambda: len(it.begun) == 2)
        assert LATE in it.consumer.paused
        await it.consumer.revoke([NEW])
        assert it.consumer.paused == set()


async def test_tests_wait_for_nobody() -> None:
    async with consumer_fixture(max_open=2, at_once=1) as it:
        it.add(5)
        await quiet()
        it.add(topic=TEST_DELIVERIES)
        await quiet()
        assert it.begun_of(NEW) == [0, 1]
        assert it.begun_of(Partition(TEST_DELIVERIES, 0)) == [0]


async def test_retries_yield_to_new_records_when_the_budget_gets_short() -> None:
    async with consumer_fixture(max_open=8, at_once=1) as it:
        it.add(10, topic=RETRY)
        it.clock.advance(60)
        await quiet()
        assert len(it.begun_of(LATE)) == 6
        it.add(10)
        await quiet()
        assert len(it.begun_of(NEW)) == 2
        it.finish(*range(6), partition=LATE)
        await quiet()
        assert it.begun_of(LATE) == sorted(set(it.begun_of(LATE)))
        assert len(it.begun) == 6 + 8


async def test_a_burst_on_one_partition_leaves_the_others_their_turns() -> None:
    async with consumer_fixture() as it:
        await quiet()
        other = Partition(TEST_DELIVERIES, 0)
        burst = [Record(NEW, offset, None, b"delivery", it.clock.now()) for offset in range(400)]
        it.partition_consumer.received([*burst, Record(other, 0, None, b"delivery", it.clock.now())])
        await until(lambda: len(it.begun) == 401)
        assert [record.partition for record in it.begun].index(other) < 8


# -- partitions come and go ----------------------------------------------------------------------------------


async def test_a_partition_that_goes_is_finished_and_committed_first() -> None:
    async with consumer_fixture() as it:
        it.add(2)
        await quiet()
        going = asyncio.create_task(it.consumer.revoke([NEW]))
        await quiet()
        assert not going.done()
        it.finish(0, 1)
        await going
        assert it.consumer.committed[NEW] == Commit(2, "")


async def test_queued_records_are_left_to_the_next_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_consumer_module, "START_AT_ONCE", 1)
    async with consumer_fixture(max_open=8) as it:
        begun = await begun_of_eight(it, it.consumer.revoke([NEW]))
        assert it.consumer.committed[NEW] == Commit(begun, "")
        it.consumer.assign([NEW])
        it.add(begun)
        # All of the budget is there again.
        await until(lambda: it.begun_of(NEW) == list(range(begun + 8)))


async def test_a_partition_that_goes_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_consumer_module, "REVOKE_SECONDS", 0)
    async with consumer_fixture() as it:
        it.add(2)
        await quiet()
        it.finish(1)
        await it.consumer.revoke([NEW])
        assert [it.is_committed(offset) for offset in (0, 1)] == [False, True]


@pytest.mark.parametrize("lost", [False, True])
async def test_work_can_tell_that_its_partition_has_gone(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(partition_consumer_module, "REVOKE_SECONDS", 0)
    async with consumer_fixture() as it:
        it.add()
        await quiet()
        assert it.still_assigned()
        await it.consumer.revoke([NEW], lost=lost)
        assert not it.still_assigned()


async def test_of_a_lost_partition_nothing_is_committed() -> None:
    async with consumer_fixture() as it:
        it.add()
        await quiet()
        await it.consumer.revoke([NEW], lost=True)
        it.finish(0)
        await quiet()
        assert NEW not in it.consumer.committed


async def test_a_partition_resumes_at_its_commit() -> None:
    async with consumer_fixture() as it:
        it.add(3)
        await quiet()
        it.finish(0, 2)
        await until(lambda: it.is_committed(2))
        await it.consumer.revoke([NEW], lost=True)
        it.consumer.assign([NEW])
        await quiet()
        assert it.begun_of(NEW) == [0, 1, 2, 1]


async def test_an_old_timer_does_not_resume_a_new_assignment() -> None:
    async with consumer_fixture() as it:
        it.add(topic=RETRY)
        await quiet()
        await it.consumer.revoke([LATE])
        it.clock.advance(20)
        it.kafka.groups["deliver"][LATE] = Commit(1, "")
        it.add(topic=RETRY)
        it.consumer.assign([LATE])
        await quiet()
        it.clock.advance(15)
        assert it.consumer.paused == {LATE}
        it.clock.advance(15.01)
        await quiet()
        assert it.begun_of(LATE) == [1]


# -- the end -------------------------------------------------------------------------------------------------


async def test_a_drain_takes_nothing_more_and_commits_what_is_in_hand() -> None:
    async with consumer_fixture() as it:
        it.add(2)
        await quiet()
        draining = asyncio.create_task(it.partition_consumer.drain())
        await quiet()
        it.add()
        await quiet()
        assert not draining.done()
        it.finish(0, 1)
        await draining
        assert it.begun_of(NEW) == [0, 1]
        assert it.consumer.committed[NEW] == Commit(2, "")


async def test_a_drain_leaves_what_was_kept_to_the_next_process() -> None:
    async with consumer_fixture() as it:
        it.add(3, topic=RETRY)
        await quiet()
        await it.partition_consumer.drain()
        it.clock.advance(31)
        await quiet()
        assert it.begun == []
        assert LATE not in it.consumer.committed


async def test_a_drain_leaves_what_takes_too_long_uncommitted() -> None:
    async with consumer_fixture() as it:
        it.add(2)
        await quiet()
        it.finish(1)
        await it.partition_consumer.drain(seconds=0)
        assert [it.is_committed(offset) for offset in (0, 1)] == [False, True]


async def test_a_partition_that_comes_during_a_drain_is_not_begun() -> None:
    async with consumer_fixture() as it:
        await quiet()
        await it.consumer.revoke([NEW])
        it.add(2)
        await it.partition_consumer.drain()
        it.consumer.assign([NEW])
        await quiet()
        assert it.begun == []


async def test_a_drain_leaves_what_was_not_begun_to_the_next_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partition_consumer_module, "START_AT_ONCE", 1)
    async with consumer_fixture() as it:
        begun = await begun_of_eight(it, it.partition_consumer.drain())
        assert it.consumer.committed[NEW] == Commit(begun, "")


async def test_a_commit_beyond_the_end_of_the_log_stops_nothing() -> None:
    """The log was cut, or somebody set the group's offsets: the consumer goes back to what there is."""
    clock = FakeClock()
    kafka = FakeKafka(clock, partitions=1)
    kafka.groups["deliver"][NEW] = Commit(2**62, "")
    async with consumer_fixture(kafka, clock) as it:
        it.add(3)
        await quiet()
        assert it.begun_of(NEW) == [0, 1, 2]
        it.finish(0, 1, 2)
        await until(lambda: kafka.groups["deliver"][NEW] == Commit(3, ""))
