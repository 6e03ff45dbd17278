"""Batch the writes and the deadlines of all connections of a sender."""

import asyncio
import math
from typing import Protocol


class BatchedWrites:
    """Writes the requests of one iteration of the loop together, at its end.

    A write between other work costs twice as much, and each one wakes the receiver's core.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._pending: list[tuple[asyncio.WriteTransport, bytes]] = []

    def add(self, transport: asyncio.WriteTransport, request: bytes) -> None:
        if not self._pending:
            self._loop.call_soon(self._write)
        self._pending.append((transport, request))

    def _write(self) -> None:
        pending, self._pending = self._pending, []
        for transport, request in pending:
            if not transport.is_closing():
                transport.write(request)


class Expirable(Protocol):
    """An object with a deadline."""

    def expire(self) -> None: ...


class Deadlines:
    """Many deadlines with one timer. Nearly all are cleared in time, so a timer for each would be wasted."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._deadlines: dict[Expirable, float] = {}
        self._timer_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def set(self, expiring: Expirable, deadline: float) -> None:
        """Let an object expire at `deadline`, in the loop's time."""
        self._deadlines[expiring] = deadline
        if deadline < self._timer_at:
            self._set_timer(deadline)

    def clear(self, expiring: Expirable) -> None:
        self._deadlines.pop(expiring, None)

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._expire)

    def _expire(self) -> None:
        self._timer_at = math.inf
        now = self._loop.time()
        expired = [expiring for expiring, deadline in self._deadlines.items() if deadline <= now]
        for expiring in expired:
            del self._deadlines[expiring]
        if self._deadlines:
            self._set_timer(min(self._deadlines.values()))
        for expiring in expired:
            try:
                expiring.expire()
            except Exception as error:
                # The other deadlines have no timer of their own.
                self._loop.call_exception_handler({"message": "an exception at a deadline", "exception": error})
