"""A clock that slows down while the event loop is late: a delay of this process is not the endpoint's fault."""

import asyncio
import time
from collections.abc import Callable

TICK_SECONDS = 0.01
# While nothing waits for an endpoint.
IDLE_TICK_SECONDS = 0.1
# The usual delay of a timer.
TIMER_TOLERANCE_SECONDS = 0.003
# The part of a late beat's time that counts. If nothing counted, a busy process would treat an endpoint that responds
# in nine seconds as a fast one.
LATE_TICK_WEIGHT = 0.2


class LoopClock:
    """`now` is in seconds and moves with every beat; a late beat counts for a fifth of its time.

    A loop that is busy for longer than a beat reads its sockets late, so responses seem late although they arrived in
    time.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._last_tick_at = monotonic()
        self._elapsed = 0.0

    def now(self) -> float:
        return self._elapsed

    def tick(self, seconds: float = TICK_SECONDS) -> None:
        """Move the clock. Call it this many seconds after the last call."""
        now = self._monotonic()
        elapsed, self._last_tick_at = now - self._last_tick_at, now
        is_on_time = elapsed <= seconds + TIMER_TOLERANCE_SECONDS
        self._elapsed += elapsed if is_on_time else LATE_TICK_WEIGHT * elapsed

    async def run(self, is_needed: Callable[[], bool] = lambda: True) -> None:
        """Beat until cancelled, rarely while the clock is not used."""
        while True:
            seconds = TICK_SECONDS if is_needed() else IDLE_TICK_SECONDS
            await asyncio.sleep(seconds)
            self.tick(seconds)
