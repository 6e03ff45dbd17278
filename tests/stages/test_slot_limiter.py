"""Coroutines wait for slots; a slot is never lost when one of them ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from builders import NOON
from fakes import FakeClock, FakeTelemetry, cancel_others, quiet
from streams.core.deliveries.delivery import HoldReason
from streams.core.errors import RecordAbandoned
from streams.core.queues.endpoint_queue import EndpointClass, Priority
from streams.core.queues.rate import Rate
from streams.core.queues.slot_request import SlotRequest
from streams.core.queues.slots import Slots
from streams.stages.limiting.slot_limiter import EndpointBusy, SlotLimiter


class LimiterFixture:
    """Coroutines that hold a slot until `leave`."""

    def __init__(self, total: int) -> None:
        # One more: the last slot is for tests.
        self.now = 0.0
        self.limiter = SlotLimiter(Slots(total + 1), lambda: self.now)
        self.inside: list[str] = []
        self.shed: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}

    def enter(
        self,
        name: str,
        webhook: str = "wh_crm",
        cap: int = 8,
        priority: Priority = Priority.FIRST,
        due_at: datetime = NOON,
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._hold(name, webhook, cap, priority, due_at))

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await quiet()

    async def _hold(self, name: str, webhook: str, cap: int, priority: Priority, due_at: datetime) -> None:
        self._leave[name] = asyncio.Event()
        try:
            with await self.limiter.acquire(SlotRequest(webhook, priority, cap, due_at, "acme")) as turn:
                self.inside.append(name)
                try:
                    await self._leave[name].wait()
                    turn.is_delivered = True
                finally:
                    self.inside.remove(name)
        except EndpointBusy:
            self.shed.append(name)


@asynccontextmanager
async def limiter_fixture(total: int = 2) -> AsyncIterator[LimiterFixture]:
    yield LimiterFixture(total)
    await cancel_others()


async def test_the_number_of_slots_limits_the_holders() -> None:
    async with limiter_fixture(total=2) as fixture:
        # Make the endpoint healthy: a new one may use half of the slots only.
        fixture.enter("first")
        await quiet()
        await fixture.leave("first")
        for name in "abc":
            fixture.enter(name)
        await quiet()
        assert fixture.inside == ["a", "b"]
        await fixture.leave("a")
        assert fixture.inside == ["b", "c"]


async def test_no_webhook_has_more_than_its_cap() -> None:
    async with limiter_fixture(total=8) as fixture:
        for name in "abc":
            fixture.enter(name, "wh_slow", cap=2)
        fixture.enter("d", "wh_quick")
        await quiet()
        assert fixture.inside == ["a", "b", "d"]


async def test_a_slot_comes_back_when_its_holder_fails() -> None:
    limiter = SlotLimiter(Slots(2))
    with (
        pytest.raises(RuntimeError, match="broken"),
        await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 1, NOON, "acme")),
    ):
        raise RuntimeError("broken")
    async with asyncio.timeout(10):
        with await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 1, NOON, "acme")):
            pass


async def test_a_slot_comes_back_when_its_holder_is_cancelled() -> None:
    async with limiter_fixture(total=1) as fixture:
        first = fixture.enter("a")
        fixture.enter("b")
        await quiet()
        first.cancel()
        await quiet()
        assert fixture.inside == ["b"]


async def test_a_cancelled_waiter_does_not_block_the_next() -> None:
    async with limiter_fixture(total=1) as fixture:
        fixture.enter("a")
        cancelled = fixture.enter("b")
        fixture.enter("c")
        await quiet()
        cancelled.cancel()
        await fixture.leave("a")
        assert fixture.inside == ["c"]


async def test_a_cancelled_waiter_gives_its_slot_back() -> None:
    async with limiter_fixture(total=1) as fixture:
        with await fixture.limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme")):
            cancelled = fixture.enter("a")
            fixture.enter("b")
            await quiet()
        # Its slot is granted, and it has not run yet.
        cancelled.cancel()
        await quiet()
        assert fixture.inside == ["b"]


async def test_after_close_no_waiter_gets_a_slot() -> None:
    async with limiter_fixture(total=1) as fixture:
        fixture.enter("a")
        waiting = fixture.enter("b")
        await quiet()
        fixture.limiter.close()
        await fixture.leave("a")
        assert isinstance(waiting.exception(), RecordAbandoned)
        assert fixture.inside == []


async def test_after_close_a_new_waiter_fails_at_once() -> None:
    async with limiter_fixture(total=1) as fixture:
        fixture.limiter.close()
        late = fixture.enter("a")
        await quiet()
        assert isinstance(late.exception(), RecordAbandoned)


async def test_after_close_a_holder_may_finish() -> None:
    async with limiter_fixture(total=1) as fixture:
        first = fixture.enter("a")
        await quiet()
        fixture.limiter.close()
        await fixture.leave("a")
        assert first.done()
        assert not first.cancelled()


async def test_waiters_that_would_wait_too_long_are_shed() -> None:
    async with limiter_fixture(total=8) as fixture:
        for name in "abcd":
            fixture.enter(name, cap=1)
        await quiet()
        fixture.now = 4.0
        fixture.limiter.maintain()
        await quiet()
        assert (fixture.inside, fixture.shed) == (["a"], ["d", "c"])
        await fixture.leave("a")
        assert fixture.inside == ["b"]


async def test_a_test_gets_a_slot_while_others_wait() -> None:
    async with limiter_fixture(total=1) as fixture:
        for name in "ab":
            fixture.enter(name)
        fixture.enter("test", "wh_crm/test", priority=Priority.TEST)
        await quiet()
        assert fixture.inside == ["a", "test"]


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


async def respond_once(fixture: LimiterFixture, *webhooks: str) -> None:
    """Make these endpoints healthy."""
    for webhook in webhooks:
        fixture.enter(webhook, webhook)
        await quiet()
        await fixture.leave(webhook)


async def test_the_oldest_delivery_that_waits_for_a_slot_is_overdue() -> None:
    async with limiter_fixture(total=1) as fixture:
        await respond_once(fixture, "wh_a", "wh_b", "wh_c")
        fixture.enter("has the slot", "wh_a", due_at=NOON - minutes(9))
        fixture.enter("late", "wh_b", due_at=NOON)
        fixture.enter("later", "wh_c", due_at=NOON - minutes(1))
        await quiet()
        assert fixture.limiter.overdue_seconds(NOON + minutes(1)) == 120
        await fixture.leave("has the slot")
        assert fixture.inside == ["late"]
        assert fixture.limiter.overdue_seconds(NOON + minutes(1)) == 120
        await fixture.leave("late")
        assert fixture.limiter.overdue_seconds(NOON + minutes(1)) == 0


async def test_a_clock_behind_the_brokers_makes_nothing_overdue() -> None:
    async with limiter_fixture(total=1) as fixture:
        await respond_once(fixture, "wh_a", "wh_b")
        fixture.enter("a", "wh_a")
        fixture.enter("b", "wh_b")
        await quiet()
        assert fixture.limiter.overdue_seconds(NOON - minutes(1)) == 0


async def test_what_waits_for_its_own_endpoint_is_not_overdue() -> None:
    async with limiter_fixture(total=8) as fixture:
        await respond_once(fixture, "wh_slow")
        for name in "abc":
            fixture.enter(name, "wh_slow", cap=1)
        await quiet()
        assert fixture.inside == ["a"]
        assert fixture.limiter.overdue_seconds(NOON + minutes(60)) == 0


async def test_a_cancelled_waiter_is_not_overdue() -> None:
    async with limiter_fixture(total=1) as fixture:
        await respond_once(fixture, "wh_a", "wh_b")
        fixture.enter("a", "wh_a")
        cancelled = fixture.enter("b", "wh_b")
        await quiet()
        cancelled.cancel()
        await quiet()
        assert fixture.limiter.overdue_seconds(NOON + minutes(1)) == 0


async def test_the_limiter_reports_how_late_deliveries_are() -> None:
    async with limiter_fixture(total=1) as fixture:
        await respond_once(fixture, "wh_a", "wh_b")
        fixture.enter("a", "wh_a")
        fixture.enter("b", "wh_b", due_at=NOON - minutes(2))
        telemetry, clock = FakeTelemetry(), FakeClock(NOON)
        running = asyncio.create_task(fixture.limiter.run(telemetry, clock))
        async with asyncio.timeout(10):
            while "deliver_overdue_seconds" not in telemetry.gauges:
                await asyncio.sleep(0.01)
        running.cancel()
        assert telemetry.gauges["deliver_overdue_seconds"] == 120
        assert telemetry.gauges["slots_waiting"] == 1
        in_use = {name: telemetry.series[f'slots_in_use{{endpoint_class="{name}"}}'] for name in EndpointClass}
        assert in_use == dict.fromkeys(EndpointClass, 0) | {EndpointClass.HEALTHY: 1}


# -- rates -----------------------------------------------------------------------------------------------------


async def test_what_waits_for_a_rate_goes_when_it_is_allowed() -> None:
    loop = asyncio.get_running_loop()
    limiter = SlotLimiter(Slots(9, loop.time), loop.time)
    started = loop.time()
    sent_at = []
    for _ in range(3):
        with await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", Rate(20, 1))) as slot:
            sent_at.append(loop.time() - started)
            slot.is_delivered = True
    assert sent_at[1] >= 0.05
    assert 0.1 <= sent_at[2] < 2


async def test_what_would_wait_for_a_rate_for_long_is_held() -> None:
    loop = asyncio.get_running_loop()
    limiter = SlotLimiter(Slots(9, loop.time), loop.time)
    with await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", Rate(0.1, 1))) as slot:
        slot.is_delivered = True
    with pytest.raises(EndpointBusy) as caught:
        await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", Rate(0.1, 1)))
    assert caught.value.reason is HoldReason.RATE


async def test_a_revoked_waiter_is_abandoned_and_uses_no_rate() -> None:
    now = 100.0
    limiter = SlotLimiter(Slots(9, lambda: now), lambda: now)
    rate = Rate(1, 1)
    with await limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", rate)) as slot:
        slot.is_delivered = True
    waiting: set[asyncio.Future[None]] = set()
    abandoned = asyncio.create_task(
        limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", rate), waiting)
    )
    await quiet()
    for future in waiting:
        future.set_exception(RecordAbandoned())
    with pytest.raises(RecordAbandoned):
        await abandoned
    assert waiting == set()
    following = asyncio.create_task(limiter.acquire(SlotRequest("wh_crm", Priority.FIRST, 8, NOON, "acme", rate)))
    await quiet()
    now += 1
    limiter.maintain()
    await quiet()
    assert following.done()
    following.result()
