"""What the connections of a sender share: requests leave together, and one timer has the deadlines of all."""

import asyncio
import math
from typing import Protocol


class BatchedWrites:
    """Requests of one round of the loop, which leave together at its end.

    To write amid other work costs twice as much, and wakes the receiver's core up for each of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._leaving: list[tuple[asyncio.WriteTransport, bytes]] = []

    def add(self, transport: asyncio.WriteTransport, request: bytes) -> None:
        if not self._leaving:
            self._loop.call_soon(self._leave)
        self._leaving.append((transport, request))

    def _leave(self) -> None:
        leaving, self._leaving = self._leaving, []
        for transport, request in leaving:
            if not transport.is_closing():
                transport.write(request)


class Expiring(Protocol):
    """Who is told that its time is over."""

    def expire(self) -> None: ...


class Deadlines:
    """Nearly all are answered long before their deadline: a timer for each would cost more than it does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines: dict[Expiring, float] = {}
        self._rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, whom: Expiring, deadline: float) -> None:
        """`whom` is to expire at `deadline`, in the loop's time."""
        self._deadlines[whom] = deadline
        if deadline < self._rings_at:
            self._ring_at(deadline)

    def clear(self, whom: Expiring) -> None:
        self._deadlines.pop(whom, None)

    def _ring_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = deadline
        self._timer = self._loop.call_at(deadline, self._ring)

    def _ring(self) -> None:
        self._rings_at = math.inf
        now = self._loop.time()
        late = [whom for whom, deadline in self._deadlines.items() if deadline <= now]
        for whom in late:
            del self._deadlines[whom]
        if self._deadlines:
            self._ring_at(min(self._deadlines.values()))
        for whom in late:
            try:
                whom.expire()
            except Exception as error:
                # Nobody else has a timer for those that are late too.
                self._loop.call_exception_handler({"message": "a deadline passed unheeded", "exception": error})
