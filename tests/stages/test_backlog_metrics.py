"""The publisher exposes what waits in the whole deployment, through outages."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest_asyncio

from builders import NOON
from fakes import FakeClock, FakeTelemetry, cancel_others, postponed_work, until
from streams.core.deliveries.backlog import Backlog, GroupOffsets, WaitingCount
from streams.core.errors import Unavailable
from streams.ports.kafka import Partition
from streams.stages import backlog_metrics

ONE, TWO = Partition("deliveries", 0), Partition("deliveries", 1)


@dataclass
class FakeBacklogs:
    """`Backlogs` and `GroupLags` in memory."""

    backlog: Backlog = field(default_factory=lambda: Backlog({}, {}, {}, {}))
    found: dict[str, dict[Partition, GroupOffsets]] = field(default_factory=dict)
    away: bool = False
    reads: int = 0

    async def read(self) -> Backlog:
        self.reads += 1
        if self.away:
            raise Unavailable("no database")
        return self.backlog

    async def offsets(self) -> dict[str, dict[Partition, GroupOffsets]]:
        return self.found


@dataclass
class Fixture:
    """The metrics and what they are read from."""

    backlogs: FakeBacklogs = field(default_factory=FakeBacklogs)
    clock: FakeClock = field(default_factory=FakeClock)
    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)

    def start(self) -> None:
        task = backlog_metrics.expose_backlog(
            self.backlogs, self.backlogs, self.clock, self.telemetry, postponed_work(self.telemetry), lambda _: 0
        )
        self.running = asyncio.create_task(task)

    async def read_again(self) -> None:
        before = self.backlogs.reads
        await until(lambda: self.backlogs.reads > before + 1)


@pytest_asyncio.fixture
async def fixture() -> AsyncIterator[Fixture]:
    yield Fixture()
    await cancel_others()


async def test_deliveries_are_exposed_by_tier_and_reason(fixture: Fixture) -> None:
    ago = NOON - timedelta(hours=1)
    fixture.backlogs.backlog = Backlog(
        webhooks={"active": 3, "paused": 1},
        retries={"30s": WaitingCount(5, NOON + timedelta(seconds=20)), "6h": WaitingCount(1, ago)},
        held={"busy": WaitingCount(7, ago)},
        dead={"exhausted": WaitingCount(2, ago)},
    )
    fixture.start()
    await fixture.read_again()
    found = fixture.telemetry.replaced
    assert fixture.telemetry.gauges["maintainer"] == 1
    assert found["webhooks"] == {("active",): 3, ("paused",): 1}
    assert found["retries_waiting"] == {("30s",): 5, ("6h",): 1}
    assert found["retries_overdue_seconds"] == {("30s",): 0, ("6h",): 3600}
    assert (found["held_deliveries"], found["held_deliveries_oldest_seconds"]) == ({("busy",): 7}, {("busy",): 3600})
    assert found["undecided_dead_letters"] == {("exhausted",): 2}
    assert found["undecided_dead_letters_oldest_seconds"] == {("exhausted",): 3600}


async def test_what_has_no_time_is_not_old(fixture: Fixture) -> None:
    fixture.backlogs.backlog = Backlog({}, {"30s": WaitingCount(0, None)}, {}, {})
    fixture.start()
    await fixture.read_again()
    assert fixture.telemetry.replaced["retries_overdue_seconds"] == {("30s",): 0}


def test_a_quick_reading_is_soon_repeated() -> None:
    assert [backlog_metrics.pause_after(elapsed) for elapsed in (0, 0.75, 2)] == [15, 15, 40]


async def test_a_reason_that_is_over_is_no_longer_exposed(fixture: Fixture) -> None:
    fixture.backlogs.backlog = Backlog({}, {}, {"busy": WaitingCount(7, NOON)}, {})
    fixture.start()
    await fixture.read_again()
    fixture.backlogs.backlog = Backlog({}, {}, {}, {})
    await fixture.read_again()
    assert fixture.telemetry.replaced["held_deliveries"] == {}


async def test_the_lag_of_a_topic_is_that_of_its_partitions(fixture: Fixture) -> None:
    fixture.backlogs.found = {"deliver": {ONE: GroupOffsets(3, 10), TWO: GroupOffsets(5, 5)}}
    fixture.start()
    await fixture.read_again()
    fixture.clock.advance(60)
    await fixture.read_again()
    assert fixture.telemetry.replaced["group_lag_records"] == {("deliver", "deliveries"): 7}
    assert fixture.telemetry.replaced["group_lag_seconds"] == {("deliver", "deliveries"): 60}


async def test_an_outage_of_the_database_hides_no_lag(fixture: Fixture) -> None:
    fixture.backlogs.away = True
    fixture.backlogs.found = {"record": {ONE: GroupOffsets(0, 2)}}
    fixture.start()
    await fixture.read_again()
    assert fixture.telemetry.replaced["group_lag_records"] == {("record", "deliveries"): 2}
    fixture.backlogs.away = False
    await until(lambda: "webhooks" in fixture.telemetry.replaced)
