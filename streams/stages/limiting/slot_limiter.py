"""Let coroutines wait for a slot, or tell them that they would wait too long."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from streams.core.endpoint_queue import EndpointClass, Priority
from streams.core.errors import ScormWebhooksError
from streams.core.slots import Slots
from streams.ports import Telemetry

TICK_SECONDS = 0.25


class EndpointBusy(ScormWebhooksError):
    """The endpoint is too slow for what waits in its line: this one had better wait elsewhere."""


class SlotLimiter:
    """`slot` waits for its turn; after `close` nobody gets one any more. `now` is the loop's time unless given."""

    def __init__(self, slots: Slots["AcquiredSlot"], now: Callable[[], float] | None = None) -> None:
        self._slots = slots
        self._now = now or asyncio.get_running_loop().time
        self._waiting: set[AcquiredSlot] = set()
        self._closed = False

    async def slot(self, line: str, errand: Priority, ceiling: int) -> "AcquiredSlot":
        """A slot, held until the end of a `with`.

        Raises `EndpointBusy` when the line is too long, CancelledError when the keeper closes first.
        """
        if self._closed:
            raise asyncio.CancelledError
        turn = AcquiredSlot(self, line)
        if not self._slots.seize(line, turn, self._now(), errand, ceiling):
            await self._wait(turn, errand, ceiling)
        return turn

    async def _wait(self, turn: "AcquiredSlot", errand: Priority, ceiling: int) -> None:
        turn.comes = asyncio.get_running_loop().create_future()
        self._waiting.add(turn)
        self._slots.ask(turn.line, turn, errand, ceiling)
        self._grant()
        if not turn.comes.done():
            self._spill([turn.line])
        try:
            await turn.comes
        except asyncio.CancelledError:
            if turn.comes.done() and not turn.comes.cancelled() and turn.comes.exception() is None:
                self.give_back(turn)
            raise

    def give_back(self, turn: "AcquiredSlot") -> None:
        """The slot is free again."""
        self._slots.release(turn.line, turn, self._now(), turn.delivered)
        if self._waiting:
            self._grant()

    async def tick(self, telemetry: Telemetry) -> None:
        """Look after those that hang and those that wait, now and then, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.look_after()
            for repute in EndpointClass:
                telemetry.gauge("slots_in_use", self._slots.held(repute), repute=repute)
            telemetry.gauge("slots_waiting", len(self._waiting))

    def look_after(self) -> None:
        """Grant what became free by the passing of time, and send away whoever would wait too long."""
        self._grant()
        self._spill(None)

    def close(self) -> None:
        """Cancel whoever waits: what has not left yet stays uncommitted and is sent after the restart."""
        self._closed = True
        for turn in self._waiting:
            turn.comes.cancel()
        self._waiting.clear()

    def _grant(self) -> None:
        if self._closed:
            return
        now, again = self._now(), True
        while again:
            again = False
            for line, turn in self._slots.grant(now):
                self._waiting.discard(turn)
                if turn.comes.cancelled():
                    self._slots.release(line, turn, now, None)
                    again = True
                else:
                    turn.comes.set_result(None)

    def _spill(self, lines: list[str] | None) -> None:
        if self._closed:
            return
        for turn in self._slots.spill(self._now(), lines):
            self._waiting.discard(turn)
            if not turn.comes.cancelled():
                turn.comes.set_exception(EndpointBusy("the endpoint is too slow for what is owed to it"))


class AcquiredSlot:
    """A slot of a line; `delivered` is set to how the attempt ended, None when none was made."""

    __slots__ = ("_keeper", "comes", "delivered", "line")

    comes: asyncio.Future[None]

    def __init__(self, keeper: SlotLimiter, line: str) -> None:
        self._keeper = keeper
        self.line = line
        self.delivered: bool | None = None

    def __enter__(self) -> "AcquiredSlot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._keeper.give_back(self)
