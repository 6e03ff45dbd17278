"""Records are handled when they are due and there is room, and committed when they are complete."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from builders import delivery
from fakes import FakeClock, FakeHandler, FakeKafka, FakeRecordConsumer, FakeTelemetry, cancel_others, quiet, until
from streams.core.deliveries.delivery import Delivery
from streams.core.errors import InvalidRecord, NewerRecord, RecordsRefused, Unavailable
from streams.core.records.offset_tracker import WINDOW_OFFSETS, Commit, OffsetTracker
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition, Record, RecordHandler
from streams.stages.consuming.partition_consumer import (
    MAX_RESUMED_PARTITIONS,
    RESUME_INTERVAL_SECONDS,
    Pacing,
    PartitionConsumer,
)
from streams.stages.consuming.partition_state import MAX_NOT_DUE_RECORDS, PartitionState
from streams.topics import BULK_DELIVERIES, DELIVERIES, INVALID, TEST_DELIVERIES

RETRY = "deliveries.retry.30s"
SECONDS = 5.0
COMMITS_OFTEN = Pacing(commit_interval_seconds=0)
ONE_BY_ONE = Pacing(commit_interval_seconds=0, tasks_per_iteration=1)
IMPATIENT = Pacing(commit_interval_seconds=0, revoke_timeout_seconds=0)
NEW, LATE = Partition(DELIVERIES, 0), Partition(RETRY, 0)


class ConsumerFixture:
    """A `PartitionConsumer` with a topic of new records and a tier of 30 s. As its handler, it waits for `finish`."""

    def __init__(self, kafka: FakeKafka, clock: FakeClock, max_open: int, at_once: int, pacing: Pacing) -> None:
        self.kafka = kafka
        self.clock = clock
        self.telemetry = FakeTelemetry()
        self.consumer = FakeRecordConsumer(kafka, "deliver", [DELIVERIES, TEST_DELIVERIES, RETRY], at_once)
        self.handlers_fail = False
        self.partition_consumer = PartitionConsumer(
            self.consumer, self, kafka, clock, self.telemetry, Outages(self.telemetry), max_open, clock.later, pacing
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

    def read(self, record: Record) -> Delivery:
        if self.handlers_fail:
            raise RuntimeError("a bug")
        if record.value == b"newer":
            raise NewerRecord("it has an unknown schema")
        if record.value == b"junk":
            raise InvalidRecord("it is no delivery")
        return delivery(account_id=record.key.decode()) if record.key else delivery()

    async def deliver(self, record: Record, delivery: Delivery, partition: PartitionState) -> None:
        self.partition = partition
        self.begun.append(record)
        result = asyncio.get_running_loop().create_future()
        self._results[record.partition, record.offset] = result
        await result


@asynccontextmanager
async def consumer_fixture(
    kafka: FakeKafka | None = None,
    clock: FakeClock | None = None,
    max_open: int = 4000,
    at_once: int = 500,
    pacing: Pacing = COMMITS_OFTEN,
) -> AsyncIterator[ConsumerFixture]:
    clock = clock or FakeClock()
    yield ConsumerFixture(kafka or FakeKafka(clock, partitions=1), clock, max_open, at_once, pacing)
    await cancel_others()


async def started_of_eight(fixture: ConsumerFixture, ending: Coroutine[Any, Any, object]) -> int:
    """How many of eight records were started when `ending` began; these finish, the others never start."""
    fixture.add(8)
    await until(lambda: len(fixture.begun) == 2)
    ended = asyncio.create_task(ending)
    await quiet()
    begun = fixture.begun_of(NEW)
    fixture.finish(*begun)
    await ended
    assert len(begun) < 8
    return len(begun)


# -- newer releases ------------------------------------------------------------------------------------------


async def test_a_partition_waits_at_the_record_of_a_newer_release() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        fixture.kafka.append(Outgoing(DELIVERIES, None, b"newer"))
        fixture.add(2)
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1]
        fixture.finish(0, 1)
        await until(lambda: fixture.consumer.committed.get(NEW) == Commit(2, ""))
        fixture.add(topic=TEST_DELIVERIES)
        await quiet()
        assert fixture.begun_of(Partition(TEST_DELIVERIES, 0)) == [0]
        assert fixture.begun_of(NEW) == [0, 1]
        [problem] = fixture.partition_consumer.readiness_problems()
        assert "deliveries 0: a newer release wrote the record at offset 2; upgrade this stage" in problem
        assert fixture.telemetry.gauges["partitions_of_newer_release"] == 1
        [line] = fixture.telemetry.fields_of("newer_record")
        assert (line["topic"], line["offset"], line["why"]) == (DELIVERIES, 2, "it has an unknown schema")


async def test_partitions_that_wait_alike_are_one_problem() -> None:
    async with consumer_fixture() as fixture:
        for topic in (DELIVERIES, TEST_DELIVERIES):
            fixture.kafka.append(Outgoing(topic, None, b"newer"))
        await until(lambda: fixture.telemetry.logged_count("newer_record") == 2)
        [problem] = fixture.partition_consumer.readiness_problems()
        assert "a newer release wrote the record at offset 0" in problem
        assert problem.endswith("; further partitions wait as well: 1, see newer_record in the log")


async def test_no_other_reason_resumes_a_partition_that_waits() -> None:
    async with consumer_fixture(max_open=2) as fixture:
        fixture.add(2)
        fixture.kafka.append(Outgoing(DELIVERIES, None, b"newer"))
        fixture.add()
        await quiet()
        fixture.finish(0, 1)
        await until(lambda: fixture.consumer.committed.get(NEW) == Commit(2, ""))
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1]
        assert NEW in fixture.consumer.paused


async def test_a_revoked_partition_waits_no_longer() -> None:
    async with consumer_fixture() as fixture:
        fixture.kafka.append(Outgoing(DELIVERIES, None, b"newer"))
        await until(lambda: bool(fixture.partition_consumer.readiness_problems()))
        await fixture.consumer.revoke([NEW])
        assert fixture.partition_consumer.readiness_problems() == []
        assert NEW not in fixture.consumer.committed


async def test_what_a_newer_release_completed_stops_nothing() -> None:
    kafka = FakeKafka(clock := FakeClock(), partitions=1)
    kafka.groups["deliver"][NEW] = Commit(0, _complete(1))
    async with consumer_fixture(kafka, clock) as fixture:
        fixture.add()
        fixture.kafka.append(Outgoing(DELIVERIES, None, b"newer"))
        fixture.add()
        await quiet()
        assert fixture.begun_of(NEW) == [0, 2]
        assert fixture.partition_consumer.readiness_problems() == []


def _complete(offset: int) -> str:
    """The metadata of a commit at 0, with this record beyond it complete."""
    tracker = OffsetTracker()
    for one in range(offset + 1):
        tracker.open(one)
    tracker.complete(offset)
    pending = tracker.next_commit()
    assert pending
    return pending.metadata


# -- due times -----------------------------------------------------------------------------------------------


async def test_a_new_record_is_handled_at_once() -> None:
    async with consumer_fixture() as fixture:
        fixture.add()
        await quiet()
        assert fixture.begun_of(NEW) == [0]


async def test_a_retry_is_handled_exactly_when_it_is_due() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(topic=RETRY)
        await quiet()
        fixture.clock.advance(29.99)
        await quiet()
        assert fixture.begun_of(LATE) == []
        fixture.clock.advance(0.02)
        await quiet()
        assert fixture.begun_of(LATE) == [0]


async def test_an_almost_due_record_waits_for_the_rest() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(topic=RETRY)
        fixture.clock.advance(29.5)
        await quiet()
        assert fixture.begun_of(LATE) == []
        fixture.clock.advance(0.51)
        await quiet()
        assert fixture.begun_of(LATE) == [0]


async def test_records_behind_one_that_is_not_due_keep_their_order() -> None:
    async with consumer_fixture() as fixture:
        for _ in range(3):
            fixture.add(2, topic=RETRY)
            fixture.clock.advance(10)
        await quiet()
        for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]):
            fixture.clock.advance(0.01)
            await quiet()
            assert fixture.begun_of(LATE) == expected
            fixture.clock.advance(9.99)
            await quiet()


async def test_a_record_read_early_is_not_read_again() -> None:
    async with consumer_fixture() as fixture:
        for _ in range(10):
            fixture.add(topic=RETRY)
            fixture.clock.advance(1)
        await quiet()
        for number in range(10):
            fixture.clock.advance(20.01 if number == 0 else 1)
            await quiet()
            assert fixture.begun_of(LATE) == list(range(number + 1))
        assert fixture.consumer.read == 10
        assert fixture.consumer.paused == set()


async def test_many_early_records_are_each_handled_once() -> None:
    async with consumer_fixture() as fixture:
        for _ in range(MAX_NOT_DUE_RECORDS + 10):
            fixture.add(topic=RETRY)
            fixture.clock.advance(0.1)
        await quiet()
        assert fixture.consumer.read == MAX_NOT_DUE_RECORDS + 10
        fixture.clock.advance(30 - 10 * 0.1 - 0.09)  # only those that were kept are due
        await quiet()
        assert fixture.begun_of(LATE) == list(range(MAX_NOT_DUE_RECORDS))
        fixture.clock.advance(10)
        await quiet()
        assert fixture.begun_of(LATE) == list(range(MAX_NOT_DUE_RECORDS + 10))
        assert fixture.consumer.paused == set()


async def test_kept_records_are_left_to_the_next_owner() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(3, topic=RETRY)
        await quiet()
        await fixture.consumer.revoke([LATE])
        fixture.clock.advance(31)
        await quiet()
        assert fixture.begun == []
        fixture.consumer.assign([LATE])
        await quiet()
        assert fixture.begun_of(LATE) == [0, 1, 2]


async def test_a_bug_in_a_kept_record_ends_the_run_uncommitted() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2, topic=RETRY)
        await quiet()
        fixture.handlers_fail = True
        fixture.clock.advance(31)
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(fixture.running, 10)
        assert LATE not in fixture.consumer.committed


async def test_kept_records_wait_while_the_budget_is_used_up() -> None:
    async with consumer_fixture(max_open=8, at_once=8) as fixture:
        fixture.add(2, topic=RETRY)
        await quiet()
        fixture.add(8)
        await until(lambda: len(fixture.begun) == 8)
        fixture.clock.advance(31)
        await quiet()
        assert fixture.begun_of(LATE) == []
        fixture.finish(*range(8))
        await quiet()
        assert fixture.begun_of(LATE) == [0, 1]
        assert fixture.consumer.read == 10


async def test_a_used_budget_loses_no_records() -> None:
    async with consumer_fixture(max_open=8) as fixture:
        fixture.add(3, topic=RETRY)
        await quiet()
        fixture.add(5)
        await until(lambda: len(fixture.begun) == 5)
        # The consumer reads in its own thread: these arrive when the retries become due.
        fixture.add(3)
        on_their_way = fixture.consumer._fetch()
        fixture.clock.advance(31)
        fixture.partition_consumer.on_received(on_their_way)
        await quiet()
        fixture.finish(*range(5))
        await quiet()
        assert fixture.begun_of(NEW) == list(range(8))
        assert fixture.begun_of(LATE) == [0, 1, 2]


async def test_kept_records_wait_for_the_window() -> None:
    async with consumer_fixture(max_open=10 * WINDOW_OFFSETS) as fixture:
        fixture.add(WINDOW_OFFSETS, topic=RETRY)
        fixture.clock.advance(31)
        await until(lambda: len(fixture.begun) == WINDOW_OFFSETS)
        fixture.finish(*range(1, WINDOW_OFFSETS), partition=LATE)
        fixture.add(5, topic=RETRY)
        await quiet()
        fixture.clock.advance(31)
        await quiet()
        assert len(fixture.begun) == WINDOW_OFFSETS
        fixture.finish(0, partition=LATE)
        await until(lambda: len(fixture.begun) == WINDOW_OFFSETS + 5)
        assert fixture.begun_of(LATE) == list(range(WINDOW_OFFSETS + 5))


async def test_a_waiting_tier_does_not_block_other_partitions() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(topic=RETRY)
        await quiet()
        fixture.add(3)
        await quiet()
        assert fixture.consumer.paused == {LATE}
        assert fixture.begun_of(NEW) == [0, 1, 2]


# -- commits -------------------------------------------------------------------------------------------------


async def test_records_are_handled_concurrently_and_end_in_any_order() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(4)
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1, 2, 3]
        fixture.finish(3, 1)
        await until(lambda: fixture.is_committed(3))
        assert [fixture.is_committed(offset) for offset in range(4)] == [False, True, False, True]
        fixture.finish(0, 2)
        await until(lambda: fixture.consumer.committed.get(NEW) == Commit(4, ""))


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
    async with consumer_fixture() as fixture:
        fixture.consumer.away = True
        fixture.add()
        await quiet()
        fixture.finish(0)
        await until(lambda: fixture.telemetry.logged_count("commit_failed") > 0)
        assert fixture.telemetry.counts["commit_errors_total"] > 0
        assert fixture.consumer.committed == {}
        fixture.consumer.away = False
        await until(lambda: fixture.consumer.committed.get(NEW) == Commit(1, ""))


async def test_an_unexpected_failure_leaves_its_record_uncommitted() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        await quiet()
        fixture.finish(1)
        await until(lambda: fixture.is_committed(1))
        fixture.fail(0, RuntimeError("a bug"))
        with pytest.raises(RuntimeError, match="a bug"):
            await fixture.running
        assert not fixture.is_committed(0)


# -- invalid records ------------------------------------------------------------------------------------------


async def test_a_record_that_cannot_be_read_is_stored_as_invalid() -> None:
    async with consumer_fixture() as fixture:
        fixture.add()
        fixture.kafka.append(Outgoing(DELIVERIES, b"key", b"junk"))
        fixture.add()
        await until(lambda: fixture.is_committed(1))
        assert fixture.begun_of(NEW) == [0, 2]
        (invalid,) = fixture.kafka.topic(INVALID)
        assert (invalid.key, invalid.value) == (b"key", b"junk")


async def test_a_record_that_breaks_our_code_is_stored_as_invalid() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        await quiet()
        fixture.fail(0, InvalidRecord("it cannot be handled"))
        await until(lambda: fixture.is_committed(0))
        (invalid,) = fixture.kafka.topic(INVALID)
        assert (invalid.value, dict(invalid.headers)["error"]) == (b"delivery", b"it cannot be handled")
        fixture.finish(1)
        await until(lambda: fixture.consumer.committed.get(NEW) == Commit(2, ""))


@pytest.mark.parametrize(
    "error", [KeyError("a bug"), Unavailable("away"), RecordsRefused({}, {}), OSError("full")], ids=repr
)
async def test_a_failure_of_io_makes_no_record_invalid(error: Exception) -> None:
    async with consumer_fixture() as fixture:
        fixture.add()
        await quiet()
        fixture.fail(0, error)
        with pytest.raises(type(error)):
            await fixture.running
        assert fixture.kafka.topic(INVALID) == []
        assert not fixture.is_committed(0)


# -- limits --------------------------------------------------------------------------------------------------


async def test_a_stuck_record_stops_its_partition_after_a_window() -> None:
    async with consumer_fixture(max_open=10 * WINDOW_OFFSETS) as fixture:
        fixture.add(WINDOW_OFFSETS + 5)
        await until(lambda: len(fixture.begun) == WINDOW_OFFSETS)
        fixture.finish(*range(1, WINDOW_OFFSETS))
        await quiet()
        assert len(fixture.begun) == WINDOW_OFFSETS
        fixture.finish(0)
        await until(lambda: len(fixture.begun) == WINDOW_OFFSETS + 5)
        assert fixture.begun_of(NEW) == list(range(WINDOW_OFFSETS + 5))


async def test_the_budget_limits_the_records_in_progress() -> None:
    async with consumer_fixture(max_open=8, at_once=1) as fixture:
        fixture.add(20)
        await quiet()
        assert fixture.begun_of(NEW) == list(range(8))
        assert fixture.telemetry.gauges["records_open"] == 8
        fixture.finish(0, 1, 2)
        await quiet()
        assert fixture.telemetry.gauges["records_open"] == 5
        assert len(fixture.begun) == 8
        fixture.finish(3)
        await quiet()
        assert fixture.begun_of(NEW) == list(range(12))


async def test_records_of_one_fetch_are_handled_together() -> None:
    async with consumer_fixture(max_open=8, at_once=6) as fixture:
        fixture.add(20)
        await until(lambda: len(fixture.begun) == 12)
        await quiet()
        assert fixture.consumer.paused == {NEW, LATE}
        fixture.finish(*range(8))
        await until(lambda: len(fixture.begun) == 18)
        fixture.finish(*range(8, 18))
        await until(lambda: len(fixture.begun) == 20)
        assert fixture.consumer.read == 20


async def test_paused_partitions_resume_within_the_budget() -> None:
    pacing = Pacing(commit_interval_seconds=0, tasks_per_iteration=1, revoke_timeout_seconds=0)
    async with consumer_fixture(max_open=8, pacing=pacing) as fixture:
        fixture.add(8)
        await until(lambda: len(fixture.begun) == 2)
        assert LATE in fixture.consumer.paused
        await fixture.consumer.revoke([NEW])
        assert fixture.consumer.paused == set()


class PausingConsumer:
    """A `RecordConsumer` that only remembers which partitions were resumed, in order."""

    def __init__(self) -> None:
        self.resumed: list[int] = []

    async def run(self, handler: RecordHandler) -> None:
        await asyncio.Event().wait()

    async def commit(self, commits: Mapping[Partition, Commit]) -> None: ...

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None: ...

    def resume(self, partition: Partition) -> None:
        self.resumed.append(partition.number)

    def leave(self) -> None: ...

    def readiness_problems(self) -> list[str]:
        return []


async def test_after_a_pause_partitions_take_turns() -> None:
    """A fetch begins with the same partitions after each pause: those at the end would never be read."""
    consumer, clock, telemetry, finished = PausingConsumer(), FakeClock(), FakeTelemetry(), asyncio.Event()

    async def waiting(_: Record) -> None:
        await finished.wait()

    bulk = [Partition(BULK_DELIVERIES, number) for number in range(20)]
    partition_consumer = PartitionConsumer(
        consumer, FakeHandler(waiting), FakeKafka(clock), clock, telemetry, Outages(telemetry), 13, clock.later
    )
    partition_consumer.on_assigned(dict.fromkeys(bulk))
    partition_consumer.on_received([Record(one, 0, None, b"delivery", clock.now()) for one in bulk[:10]])
    finished.set()
    await until(lambda: len(consumer.resumed) == MAX_RESUMED_PARTITIONS)
    assert consumer.resumed == list(range(10, 18))
    clock.advance(RESUME_INTERVAL_SECONDS)
    assert consumer.resumed[MAX_RESUMED_PARTITIONS:] == [18, 19, *range(6)]
    clock.advance(RESUME_INTERVAL_SECONDS)
    assert sorted(consumer.resumed) == list(range(20))


async def test_tests_do_not_wait_for_other_records() -> None:
    async with consumer_fixture(max_open=2, at_once=1) as fixture:
        fixture.add(5)
        await quiet()
        fixture.add(topic=TEST_DELIVERIES)
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1]
        assert fixture.begun_of(Partition(TEST_DELIVERIES, 0)) == [0]


async def test_retries_yield_to_new_records_when_the_budget_gets_short() -> None:
    async with consumer_fixture(max_open=8, at_once=1) as fixture:
        fixture.add(10, topic=RETRY)
        fixture.clock.advance(60)
        await quiet()
        assert len(fixture.begun_of(LATE)) == 6
        fixture.add(10)
        await quiet()
        assert len(fixture.begun_of(NEW)) == 2
        fixture.finish(*range(6), partition=LATE)
        await quiet()
        assert fixture.begun_of(LATE) == sorted(set(fixture.begun_of(LATE)))
        assert len(fixture.begun) == 6 + 8


async def test_a_burst_on_one_partition_does_not_block_the_others() -> None:
    async with consumer_fixture() as fixture:
        await quiet()
        other = Partition(TEST_DELIVERIES, 0)
        burst = [Record(NEW, offset, None, b"delivery", fixture.clock.now()) for offset in range(400)]
        fixture.partition_consumer.on_received([*burst, Record(other, 0, None, b"delivery", fixture.clock.now())])
        await until(lambda: len(fixture.begun) == 401)
        assert [record.partition for record in fixture.begun].index(other) < 8


async def test_a_burst_of_one_account_does_not_delay_another() -> None:
    async with consumer_fixture() as fixture:
        await quiet()
        now = fixture.clock.now()
        # All of one partition, and the other account's record is the last.
        burst = [Record(NEW, offset, b"%d" % (offset % 4), b"delivery", now) for offset in range(400)]
        fixture.partition_consumer.on_received([*burst, Record(NEW, 400, b"other", b"delivery", now)])
        await until(lambda: len(fixture.begun) == 401)
        assert fixture.begun_of(NEW).index(400) == 4
        # Those of each account keep their order.
        for account in range(4):
            own = [offset for offset in fixture.begun_of(NEW)[:4] + fixture.begun_of(NEW)[5:] if offset % 4 == account]
            assert own == sorted(own)


# -- partitions come and go ----------------------------------------------------------------------------------


async def test_a_revoked_partition_is_finished_and_committed() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        await quiet()
        going = asyncio.create_task(fixture.consumer.revoke([NEW]))
        await quiet()
        assert not going.done()
        fixture.finish(0, 1)
        await going
        assert fixture.consumer.committed[NEW] == Commit(2, "")
        assert fixture.telemetry.logged_count("revoke_timed_out") == 0


async def test_queued_records_are_left_to_the_next_owner() -> None:
    async with consumer_fixture(max_open=8, pacing=ONE_BY_ONE) as fixture:
        begun = await started_of_eight(fixture, fixture.consumer.revoke([NEW]))
        assert fixture.consumer.committed[NEW] == Commit(begun, "")
        fixture.consumer.assign([NEW])
        fixture.add(begun)
        # The whole budget is free again.
        await until(lambda: fixture.begun_of(NEW) == list(range(begun + 8)))


async def test_a_revoked_partition_waits_for_a_limited_time() -> None:
    async with consumer_fixture(pacing=IMPATIENT) as fixture:
        fixture.add(2)
        await quiet()
        fixture.finish(1)
        await fixture.consumer.revoke([NEW])
        assert [fixture.is_committed(offset) for offset in (0, 1)] == [False, True]
        assert fixture.telemetry.logged_count("revoke_timed_out") == 1


@pytest.mark.parametrize("is_lost", [False, True])
async def test_a_handler_can_tell_that_its_partition_is_gone(is_lost: bool) -> None:
    async with consumer_fixture(pacing=IMPATIENT) as fixture:
        fixture.add()
        await quiet()
        assert not fixture.partition.is_revoked
        await fixture.consumer.revoke([NEW], is_lost=is_lost)
        assert fixture.partition.is_revoked


async def test_a_lost_partition_is_not_committed() -> None:
    async with consumer_fixture() as fixture:
        fixture.add()
        await quiet()
        await fixture.consumer.revoke([NEW], is_lost=True)
        fixture.finish(0)
        await quiet()
        assert NEW not in fixture.consumer.committed


async def test_a_partition_resumes_at_its_commit() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(3)
        await quiet()
        fixture.finish(0, 2)
        await until(lambda: fixture.is_committed(2))
        await fixture.consumer.revoke([NEW], is_lost=True)
        fixture.consumer.assign([NEW])
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1, 2, 1]


async def test_an_old_timer_does_not_resume_a_new_assignment() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(topic=RETRY)
        await quiet()
        await fixture.consumer.revoke([LATE])
        fixture.clock.advance(20)
        fixture.kafka.groups["deliver"][LATE] = Commit(1, "")
        fixture.add(topic=RETRY)
        fixture.consumer.assign([LATE])
        await quiet()
        fixture.clock.advance(15)
        assert fixture.consumer.paused == {LATE}
        fixture.clock.advance(15.01)
        await quiet()
        assert fixture.begun_of(LATE) == [1]


# -- the end -------------------------------------------------------------------------------------------------


async def test_a_drain_starts_nothing_and_commits_what_is_in_progress() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        await quiet()
        draining = asyncio.create_task(fixture.partition_consumer.drain(SECONDS, SECONDS))
        await quiet()
        fixture.add()
        await quiet()
        assert not draining.done()
        fixture.finish(0, 1)
        await draining
        assert fixture.begun_of(NEW) == [0, 1]
        assert fixture.consumer.committed[NEW] == Commit(2, "")


async def test_a_drain_leaves_kept_records_to_the_next_process() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(3, topic=RETRY)
        await quiet()
        await fixture.partition_consumer.drain(SECONDS, SECONDS)
        fixture.clock.advance(31)
        await quiet()
        assert fixture.begun == []
        assert LATE not in fixture.consumer.committed


async def test_a_drain_that_is_cut_commits_what_is_complete() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(2)
        await quiet()
        fixture.finish(1)
        with pytest.raises(TimeoutError, match="not finished: 1"):
            await fixture.partition_consumer.drain(0, 0)
        assert [fixture.is_committed(offset) for offset in (0, 1)] == [False, True]


async def test_a_drain_gives_partitions_back_before_slow_handlers_end() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(3)
        await quiet()
        fixture.finish(0, 2)
        draining = asyncio.create_task(fixture.partition_consumer.drain(0.01, SECONDS))
        await until(lambda: fixture.telemetry.logged_count("partitions_revoked") == 1)
        await quiet()
        # The next owner repeats this one alone, and its end here is still recorded.
        assert [fixture.is_committed(offset) for offset in (0, 1, 2)] == [True, False, True]
        assert not draining.done()
        fixture.finish(1)
        await draining
        assert not fixture.is_committed(1)


async def test_a_drain_cuts_off_what_lasts_too_long() -> None:
    async with consumer_fixture() as fixture:
        fixture.add(1)
        await quiet()
        with pytest.raises(TimeoutError, match="not finished: 1"):
            await asyncio.wait_for(fixture.partition_consumer.drain(0.01, 0.05), SECONDS)
        assert fixture.telemetry.logged_count("partitions_revoked") == 1


async def test_a_drain_does_not_wait_for_a_commit_without_an_answer() -> None:
    async with consumer_fixture(pacing=Pacing(commit_interval_seconds=0, commit_timeout_seconds=0.01)) as fixture:
        fixture.add(1)
        await quiet()
        fixture.consumer.responses.clear()
        fixture.finish(0)
        with pytest.raises(TimeoutError, match="the last commit was not answered"):
            await asyncio.wait_for(fixture.partition_consumer.drain(SECONDS, SECONDS), SECONDS)


async def test_a_partition_assigned_during_a_drain_is_not_started() -> None:
    async with consumer_fixture() as fixture:
        await quiet()
        await fixture.consumer.revoke([NEW])
        fixture.add(2)
        await fixture.partition_consumer.drain(SECONDS, SECONDS)
        fixture.consumer.assign([NEW])
        await quiet()
        assert fixture.begun == []


async def test_a_drain_leaves_queued_records_to_the_next_process() -> None:
    async with consumer_fixture(pacing=ONE_BY_ONE) as fixture:
        begun = await started_of_eight(fixture, fixture.partition_consumer.drain(SECONDS, SECONDS))
        assert fixture.consumer.committed[NEW] == Commit(begun, "")


async def test_a_commit_beyond_the_end_resumes_at_the_earliest() -> None:
    """The log was truncated, or the group's offsets were set by hand: the consumer resumes at the earliest offset."""
    clock = FakeClock()
    kafka = FakeKafka(clock, partitions=1)
    kafka.groups["deliver"][NEW] = Commit(2**62, "")
    async with consumer_fixture(kafka, clock) as fixture:
        fixture.add(3)
        await quiet()
        assert fixture.begun_of(NEW) == [0, 1, 2]
        fixture.finish(0, 1, 2)
        await until(lambda: kafka.groups["deliver"][NEW] == Commit(3, ""))
