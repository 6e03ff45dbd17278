"""A clock that counts only while the event loop keeps up: what this process delays is no endpoint's fault."""

import asyncio
import time
from collections.abc import Callable

BEAT_SECONDS = 0.01
# A timer may always come so late.
LATE_SECONDS = 0.003


class Attention:
    """`now` is in seconds and moves with every beat that came in time; a late one is not counted.

    A loop that is busy for longer than a beat looks at its sockets late, and finds late what was there in time. Under
    load every beat is late, and the clock stands still.
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
        if passed <= BEAT_SECONDS + LATE_SECONDS:
            self._counted += passed

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self.beat()
