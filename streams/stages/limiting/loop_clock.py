"""A clock that hardly moves while the event loop is late: what this process delays is no endpoint's fault."""

import asyncio
import time
from collections.abc import Callable

BEAT_SECONDS = 0.01
# A timer may always come so late.
LATE_SECONDS = 0.003
# A late beat counts for so much of its time: nothing at all would let a process that is always busy take a server that
# answers in nine seconds for a fast one.
LATE_SHARE = 0.2


class LoopClock:
    """`now` is in seconds and moves with every beat; one that came late counts for a fifth of its time.

    A loop that is busy for longer than a beat looks at its sockets late, and finds late what was there in time.
    """

    def __init__(self, real: Callable[[], float] = time.monotonic) -> None:
        self._real = real
        self._beaten_at = real()
        self._counted = 0.0

    def now(self) -> float:
        return self._counted

    def beat(self) -> None:
        """To be called `BEAT_SECONDS` after the last time."""
        now = self._real()
        passed, self._beaten_at = now - self._beaten_at, now
        in_time = passed <= BEAT_SECONDS + LATE_SECONDS
        self._counted += passed if in_time else LATE_SHARE * passed

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.beat()
