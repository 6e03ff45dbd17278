"""A clock that tests advance, and waits without sleeps."""

import asyncio
import heapq
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count as counting
from typing import Any

from builders import NOON


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Run other tasks until `condition` holds; TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


async def quiet(turns: int = 100) -> None:
    """Run other tasks until they have nothing left to do; no fake really waits."""
    for _ in range(turns):
        await asyncio.sleep(0)


async def no_wait(seconds: float) -> None:
    """Run other tasks once, instead of a sleep."""
    await asyncio.sleep(0)


async def cancel_others() -> None:
    """Cancel all other tasks, as `kill -9` ends a process; cancel again those that clean up first."""
    killed: set[asyncio.Task[Any]] = set()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        killed |= others
        for task in others:
            task.cancel()
        await asyncio.sleep(0)
    await asyncio.gather(*killed, return_exceptions=True)


async def stop_others() -> None:
    """Cancel all other tasks once, as a stop does, and wait until they have cleaned up."""
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


class FakeClock:
    """A `Clock` with timers: `advance` calls each one at its due time."""

    def __init__(self, now: datetime = NOON) -> None:
        self._now = now
        self._order = counting()
        self._timers: list[tuple[datetime, int, Callable[[], object]]] = []

    def now(self) -> datetime:
        return self._now

    def later(self, seconds: float, callback: Callable[[], object]) -> None:
        due = self._now + timedelta(seconds=seconds)
        heapq.heappush(self._timers, (due, next(self._order), callback))

    def advance(self, seconds: float) -> None:
        end = self._now + timedelta(seconds=seconds)
        while self._timers and self._timers[0][0] <= end:
            self._now, _, callback = heapq.heappop(self._timers)
            callback()
        self._now = end
