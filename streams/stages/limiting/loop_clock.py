"""A clock that slows down while the event loop is late: a delay of this process is not the endpoint's fault."""

import asyncio
import time
from collections.abc import Callable

BEAT_SECONDS = 0.01
# While nothing waits for an endpoint.
IDLE_BEAT_SECONDS = 0.1
# The usual delay of a timer.
LATE_SECONDS = 0.003
# The part of a late beat's time that counts. If nothing counted, a busy process would take an endpoint that responds in
# nine seconds for a fast one.
LATE_SHARE = 0.2


class LoopClock:
    """`now` is in seconds and moves with every beat; a late beat counts for a fifth of its time.

    A loop that is busy for longer than a beat reads its sockets late, and sees late what arrived in time.
    """

    def __init__(self, real: Callable[[], float] = time.monotonic) -> None:
        self._real = real
        self._beaten_at = real()
        self._counted = 0.0

    def now(self) -> float:
        return self._counted

    def beat(self, seconds: float = BEAT_SECONDS) -> None:
        """Call it these seconds after the last call."""
        now = self._real()
        elapsed, self._beaten_at = now - self._beaten_at, now
        in_time = elapsed <= seconds + LATE_SECONDS
        self._counted += elapsed if in_time else LATE_SHARE * elapsed

    async def run(self, is_used: Callable[[], bool] = lambda: True) -> None:
        """Beat until cancelled, seldom while the clock is not used."""
        while True:
            seconds = BEAT_SECONDS if is_used() else IDLE_BEAT_SECONDS
            await asyncio.sleep(seconds)
            self.beat(seconds)
