"""The watchdog of a consumer ends a process only for a record that another client can read."""

import asyncio
from collections.abc import Mapping

import pytest

from fakes import FakeTelemetry, quiet
from streams.adapters.kafka.consuming.consumer_watchdog import ConsumerStandsStill, ConsumerWatchdog
from streams.adapters.kafka.consuming.read_positions import ReadPositions
from streams.core.errors import Unavailable
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Partition
from streams.topics import DELIVERIES

ONE, OTHER = Partition(DELIVERIES, 0), Partition(DELIVERIES, 1)


class FakeProbe:
    """A `PositionProbe` that knows the end of each partition; it may be away."""

    def __init__(self) -> None:
        self.ends: dict[Partition, int] = {}
        self.asked: list[Partition] = []
        self.away = False

    async def find_readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
        self.asked += positions
        if self.away:
            raise Unavailable("no broker")
        return {one for one, position in positions.items() if self.ends.get(one, 0) > position}


class WatchdogFixture:
    """A watchdog with 60 seconds, of a consumer that stands at `positions`."""

    def __init__(self) -> None:
        self.positions: dict[Partition, int] = {ONE: 5, OTHER: 5}
        self.probe = FakeProbe()
        self.telemetry = FakeTelemetry()
        self.ended: list[None] = []
        self.now = 0.0
        self.watchdog = ConsumerWatchdog(
            "deliver",
            lambda: dict(self.positions),
            self.probe,
            self.telemetry,
            60,
            on_standstill=lambda: self.ended.append(None),
        )

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += 20
            await self.watchdog.check(self.now)

    @property
    def standstill(self) -> float:
        return self.telemetry.gauges["consumer_standstill_seconds"]


@pytest.fixture
def fixture() -> WatchdogFixture:
    return WatchdogFixture()


async def test_a_record_unread_for_a_minute_ends_the_process(fixture: WatchdogFixture) -> None:
    fixture.probe.ends[ONE] = 6
    await fixture.look(4)
    assert fixture.standstill == 40
    with pytest.raises(ConsumerStandsStill, match=r"deliveries 0: nothing was read for 60 seconds.* offset 5"):
        await fixture.look()
    fields = {"topic": DELIVERIES, "partition": 0, "offset": 5, "seconds": 60}
    assert fixture.telemetry.logged == [("consumer_stands_still", fields)]
    assert len(fixture.ended) == 1


async def test_a_partition_that_was_resumed_gets_its_time_again(fixture: WatchdogFixture) -> None:
    """While a process has too much to do, it pauses and resumes: a partition may wait for its turn."""
    fixture.probe.ends[ONE] = 6
    for _ in range(10):
        await fixture.look(3)
        fixture.watchdog.reset([ONE])
    await fixture.look(4)
    assert fixture.standstill == 40


async def test_a_partition_at_its_end_may_rest_for_ever(fixture: WatchdogFixture) -> None:
    fixture.probe.ends = {ONE: 5, OTHER: 5}
    await fixture.look(100)
    assert fixture.standstill == 0


async def test_a_partition_that_moves_costs_no_request(fixture: WatchdogFixture) -> None:
    fixture.probe.ends = {ONE: 1000, OTHER: 1000}
    for _ in range(10):
        fixture.positions = {one: position + 1 for one, position in fixture.positions.items()}
        await fixture.look()
    assert fixture.probe.asked == []


async def test_a_record_that_is_read_late_ends_nothing(fixture: WatchdogFixture) -> None:
    for _ in range(10):
        fixture.probe.ends[ONE] = fixture.positions[ONE] + 1
        await fixture.look(3)
        fixture.positions[ONE] += 1
    assert fixture.standstill <= 40


async def test_what_is_read_during_the_question_stands_not_still(fixture: WatchdogFixture) -> None:
    class SlowProbe(FakeProbe):
        async def find_readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
            fixture.positions[ONE] += 1
            return set(positions)

    fixture.positions.pop(OTHER)
    fixture.watchdog = ConsumerWatchdog("deliver", lambda: dict(fixture.positions), SlowProbe(), fixture.telemetry, 60)
    await fixture.look(100)
    assert fixture.standstill == 0


@pytest.mark.parametrize("pause", [1, 30])
async def test_a_pause_restarts_the_time(fixture: WatchdogFixture, pause: int) -> None:
    fixture.probe.ends[ONE] = 6
    await fixture.look(4)
    # Paused, revoked, with a batch in hand, or without a broker that answers.
    position = fixture.positions.pop(ONE)
    await fixture.look(pause)
    fixture.positions[ONE] = position
    await fixture.look(4)
    with pytest.raises(ConsumerStandsStill):
        await fixture.look()


async def test_an_assignment_restarts_the_time(fixture: WatchdogFixture) -> None:
    fixture.probe.ends[ONE] = 6
    for _ in range(10):
        await fixture.look(3)
        fixture.watchdog.reset([ONE])
    assert fixture.standstill <= 40


async def test_an_outage_restarts_the_time(fixture: WatchdogFixture) -> None:
    fixture.probe.ends[ONE] = 6
    await fixture.look(4)
    fixture.probe.away = True
    await fixture.look(100)
    assert fixture.standstill == 0


async def test_a_process_that_was_frozen_restarts_the_time(fixture: WatchdogFixture) -> None:
    fixture.probe.ends[ONE] = 6
    for _ in range(10):
        await fixture.look(3)
        fixture.now += 600
    assert fixture.standstill <= 40


async def test_a_watchdog_of_no_seconds_never_looks(fixture: WatchdogFixture) -> None:
    watchdog = ConsumerWatchdog("deliver", lambda: fixture.positions, fixture.probe, fixture.telemetry, 0)
    watching = asyncio.create_task(watchdog.run())
    await quiet()
    watching.cancel()
    assert fixture.telemetry.gauges == {}


def test_positions_follow_what_a_member_does() -> None:
    positions = ReadPositions()
    positions.on_assigned({ONE: Commit(7, ""), OTHER: None})
    assert positions.readable_positions() == {ONE: 7, OTHER: 0}
    positions.pause(ONE, 3)
    positions.pause(OTHER, None)
    assert positions.readable_positions() == {}
    positions.resume(ONE)
    assert positions.readable_positions() == {ONE: 3}
    positions.on_revoked([ONE], is_lost=False)
    # A pause does not outlive the assignment.
    positions.on_assigned({OTHER: Commit(9, "")})
    assert positions.readable_positions() == {OTHER: 9}


def test_what_a_member_lost_counts_until_it_gets_partitions() -> None:
    positions = ReadPositions()
    positions.on_assigned({ONE: Commit(7, ""), OTHER: None})
    positions.pause(ONE, None)
    positions.on_revoked([ONE, OTHER], is_lost=True)
    positions.on_assigned({})
    assert positions.readable_positions() == {ONE: 7, OTHER: 0}
    positions.on_assigned({OTHER: Commit(9, "")})
    assert positions.readable_positions() == {OTHER: 9}
