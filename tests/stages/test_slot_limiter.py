"""Coroutines wait for their slot, and nobody's end costs the others one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes import cancel_others, quiet
from streams.core.endpoint_queue import Priority
from streams.core.errors import Abandoned
from streams.core.slots import Slots
from streams.stages.limiting.slot_limiter import EndpointBusy, SlotLimiter


class Waiters:
    """Coroutines that hold a slot until they are told to leave."""

    def __init__(self, total: int) -> None:
        # One more: the last one is kept for tests.
        self.now = 0.0
        self.limiter = SlotLimiter(Slots(total + 1), lambda: self.now)
        self.inside: list[str] = []
        self.sent_away: list[str] = []
        self._leave: dict[str, asyncio.Event] = {}

    def come(
        self, name: str, webhook: str = "wh_crm", cap: int = 8, priority: Priority = Priority.FIRST
    ) -> asyncio.Task[None]:
        return asyncio.create_task(self._stay(name, webhook, cap, priority))

    async def leave(self, name: str) -> None:
        self._leave[name].set()
        await quiet()

    async def _stay(self, name: str, webhook: str, cap: int, priority: Priority) -> None:
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
            self.sent_away.append(name)


@asynccontextmanager
async def waiters(total: int = 2) -> AsyncIterator[Waiters]:
    yield Waiters(total)
    await cancel_others()


async def test_as_many_are_inside_as_there_are_slots() -> None:
    async with waiters(total=2) as crowd:
        # One that answered already: an unknown one may take half of the slots only.
        crowd.come("first")
        await quiet()
        await crowd.leave("first")
        for name in "abc":
            crowd.come(name)
        await quiet()
        assert crowd.inside == ["a", "b"]
        await crowd.leave("a")
        assert crowd.inside == ["b", "c"]


async def test_no_webhook_has_more_than_its_cap() -> None:
    async with waiters(total=8) as crowd:
        for name in "abc":
            crowd.come(name, "wh_slow", cap=2)
        crowd.come("d", "wh_quick")
        await quiet()
        assert crowd.inside == ["a", "b", "d"]


async def test_a_slot_comes_back_when_its_holder_fails() -> None:
    limiter = SlotLimiter(Slots(2))
    with pytest.raises(RuntimeError, match="broken"), await limiter.acquire("wh_crm", Priority.FIRST, 1):
        raise RuntimeError("broken")
    async with asyncio.timeout(10):
        with await limiter.acquire("wh_crm", Priority.FIRST, 1):
            pass


async def test_a_slot_comes_back_when_its_holder_is_cancelled() -> None:
    async with waiters(total=1) as crowd:
        first = crowd.come("a")
        crowd.come("b")
        await quiet()
        first.cancel()
        await quiet()
        assert crowd.inside == ["b"]


async def test_who_gives_up_waiting_keeps_nobody_else_waiting() -> None:
    async with waiters(total=1) as crowd:
        crowd.come("a")
        impatient = crowd.come("b")
        crowd.come("c")
        await quiet()
        impatient.cancel()
        await crowd.leave("a")
        assert crowd.inside == ["c"]


async def test_a_cancelled_waiter_gives_its_slot_back() -> None:
    async with waiters(total=1) as crowd:
        with await crowd.limiter.acquire("wh_crm", Priority.FIRST, 8):
            unlucky = crowd.come("a")
            crowd.come("b")
            await quiet()
        # Its turn was granted just now, and it has not woken up yet.
        unlucky.cancel()
        await quiet()
        assert crowd.inside == ["b"]


async def test_after_the_close_nobody_who_waits_gets_a_slot() -> None:
    async with waiters(total=1) as crowd:
        crowd.come("a")
        waiting = crowd.come("b")
        await quiet()
        crowd.limiter.close()
        await crowd.leave("a")
        assert isinstance(waiting.exception(), Abandoned)
        assert crowd.inside == []


async def test_after_the_close_nobody_who_asks_waits() -> None:
    async with waiters(total=1) as crowd:
        crowd.limiter.close()
        late = crowd.come("a")
        await quiet()
        assert isinstance(late.exception(), Abandoned)


async def test_who_is_inside_finishes_after_the_close() -> None:
    async with waiters(total=1) as crowd:
        first = crowd.come("a")
        await quiet()
        crowd.limiter.close()
        await crowd.leave("a")
        assert first.done()
        assert not first.cancelled()


async def test_waiters_that_would_wait_too_long_are_shed() -> None:
    async with waiters(total=8) as crowd:
        for name in "abcd":
            crowd.come(name, cap=1)
        await quiet()
        crowd.now = 4.0
        crowd.limiter.maintain()
        await quiet()
        assert (crowd.inside, crowd.sent_away) == (["a"], ["d", "c"])
        await crowd.leave("a")
        assert crowd.inside == ["b"]


async def test_a_test_goes_in_while_everybody_else_waits() -> None:
    async with waiters(total=1) as crowd:
        for name in "ab":
            crowd.come(name)
        crowd.come("test", "wh_crm/test", priority=Priority.TEST)
        await quiet()
        assert crowd.inside == ["a", "test"]
