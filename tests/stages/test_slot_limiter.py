"""Coroutines wait for slots; a slot is never lost when one of them ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes import cancel_others, quiet
from streams.core.endpoint_queue import Priority
from streams.core.errors import Abandoned
from streams.core.slots import Slots
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
        self, name: str, webhook: str = "wh_crm", cap: int = 8, priority: Priority = Priority.FIRST
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._hold(name, webhook, cap, priority))

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await quiet()

    async def _hold(self, name: str, webhook: str, cap: int, priority: Priority) -> None:
        self._leave[name] = asyncio.Event()
        try:
            with await self.limiter.acquire(webhook, priority, cap) as turn:
                self.inside.append(name)
                try:
                    await self._leave[name].wait()
                    turn.delivered = True
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
    with pytest.raises(RuntimeError, match="broken"), await limiter.acquire("wh_crm", Priority.FIRST, 1):
        raise RuntimeError("broken")
    async with asyncio.timeout(10):
        with await limiter.acquire("wh_crm", Priority.FIRST, 1):
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
        with await fixture.limiter.acquire("wh_crm", Priority.FIRST, 8):
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
        assert isinstance(waiting.exception(), Abandoned)
        assert fixture.inside == []


async def test_after_close_a_new_waiter_fails_at_once() -> None:
    async with limiter_fixture(total=1) as fixture:
        fixture.limiter.close()
        late = fixture.enter("a")
        await quiet()
        assert isinstance(late.exception(), Abandoned)


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
