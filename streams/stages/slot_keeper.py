"""Let coroutines wait for a slot, or tell them that they would wait too long."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from streams.core.errors import ScormWebhooksError
from streams.core.line import Errand, Repute
from streams.core.slots import Slots
from streams.ports import Report

TICK_SECONDS = 0.25

Waiter = asyncio.Future[None]


class Busy(ScormWebhooksError):
    """The endpoint is too slow for what waits in its line: this one had better wait elsewhere."""


class SlotKeeper:
    """`slot` waits for its turn; after `close` nobody gets one any more. `now` is the loop's time unless given."""

    def __init__(self, slots: Slots[Waiter], now: Callable[[], float] | None = None) -> None:
        self._slots = slots
        self._now = now or asyncio.get_running_loop().time
        self._waiting: set[Waiter] = set()
        self._closed = False

    def slot(self, line: str, errand: Errand, ceiling: int) -> "Turn":
        """To be entered: a slot, held until the end of the block."""
        return Turn(self, line, errand, ceiling)

    async def wait(self, line: str, errand: Errand, ceiling: int) -> Waiter:
        """Wait for a slot; raises `Busy` when the line is too long, CancelledError when the keeper closes first."""
        if self._closed:
            raise asyncio.CancelledError
        waiter: Waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        self._slots.ask(line, waiter, errand, ceiling)
        self._grant()
        if not waiter.done():
            self._spill([line])
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give_back(line, waiter, None)
            raise
        return waiter

    def give_back(self, line: str, waiter: Waiter, delivered: bool | None) -> None:
        """The slot is free again; `delivered` says how the attempt ended, None that none was made."""
        self._slots.release(line, waiter, self._now(), delivered)
        self._grant()

    async def tick(self, report: Report) -> None:
        """Look after those that hang and those that wait, now and then, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.look_after()
            for repute in Repute:
                report.gauge("slots_in_use", self._slots.held(repute), repute=repute)
            report.gauge("slots_waiting", len(self._waiting))

    def look_after(self) -> None:
        """Grant what became free by the passing of time, and send away whoever would wait too long."""
        self._grant()
        self._spill(None)

    def close(self) -> None:
        """Cancel whoever waits: what has not left yet stays uncommitted and is sent after the restart."""
        self._closed = True
        for waiter in self._waiting:
            waiter.cancel()
        self._waiting.clear()

    def _grant(self) -> None:
        if self._closed:
            return
        now, again = self._now(), True
        while again:
            again = False
            for line, waiter in self._slots.grant(now):
                self._waiting.discard(waiter)
                if waiter.cancelled():
                    self._slots.release(line, waiter, now, None)
                    again = True
                else:
                    waiter.set_result(None)

    def _spill(self, lines: list[str] | None) -> None:
        if self._closed:
            return
        for waiter in self._slots.spill(self._now(), lines):
            self._waiting.discard(waiter)
            if not waiter.cancelled():
                waiter.set_exception(Busy("the endpoint is too slow for what is owed to it"))


class Turn:
    """A slot to be entered; `delivered` is set to how the attempt ended, None when none was made.

    A class, because a generator costs more, and every delivery pays for it.
    """

    __slots__ = ("_ceiling", "_errand", "_keeper", "_line", "_waiter", "delivered")

    def __init__(self, keeper: SlotKeeper, line: str, errand: Errand, ceiling: int) -> None:
        self._keeper = keeper
        self._line = line
        self._errand = errand
        self._ceiling = ceiling
        self.delivered: bool | None = None

    async def __aenter__(self) -> "Turn":
        self._waiter = await self._keeper.wait(self._line, self._errand, self._ceiling)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keeper.give_back(self._line, self._waiter, self.delivered)
