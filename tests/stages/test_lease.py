"""Only the process that holds the lease works."""

import asyncio

import pytest

from fakes import FakeEncryptionCheck, FakeLease, FakeTelemetry, cancel_others, quiet, until
from streams.outage import Outages
from streams.stages.lease import LeaseKeeper, LeaseLost, LeaseTimes


class KeeperFixture:
    """A process that wants a lease, and what it works at while it holds it."""

    def __init__(self) -> None:
        self.lease, self.keys, self.telemetry = FakeLease(), FakeEncryptionCheck(), FakeTelemetry()
        times = LeaseTimes(renew_interval=0, retry=0)
        self.keeper = LeaseKeeper(self.lease, self.keys, self.telemetry, Outages(self.telemetry), times)
        self.works, self.is_done = asyncio.Event(), asyncio.Event()

    def start(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.keeper.hold(self._work))

    async def _work(self) -> None:
        self.works.set()
        await self.is_done.wait()


@pytest.fixture
def fixture() -> KeeperFixture:
    return KeeperFixture()


async def test_work_begins_with_the_lease_and_ends_with_it(fixture: KeeperFixture) -> None:
    rival = fixture.lease.rival()
    assert await rival.renew()
    running = fixture.start()
    await quiet()
    assert not fixture.works.is_set()
    await rival.release()
    await until(fixture.works.is_set)
    fixture.is_done.set()
    await running
    assert not fixture.lease.held


async def test_a_lease_is_renewed_while_the_work_takes_long(fixture: KeeperFixture) -> None:
    fixture.start()
    await until(fixture.works.is_set)
    for _ in range(3):
        fixture.lease.clock.advance(10)
        await quiet()
    assert not await fixture.lease.rival().renew()
    await cancel_others()


async def test_without_the_lease_the_work_is_cancelled(fixture: KeeperFixture) -> None:
    running = fixture.start()
    await until(fixture.works.is_set)
    fixture.lease.clock.advance(60)
    assert await fixture.lease.rival().renew()
    with pytest.raises(LeaseLost):
        await running
    assert not fixture.lease.held
