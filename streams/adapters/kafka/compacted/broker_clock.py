"""Compare this machine's clock with the broker's, by the append time of each sentinel."""

import asyncio
from collections.abc import Callable
from datetime import datetime

# Receivers reject timestamps that are five minutes off. A fast clock would end a tier early.
MAX_SKEW_SECONDS = 60.0
# The sentinel is repeated every ten seconds.
SENTINEL_TIMEOUT_SECONDS = 20.0


class BrokerClock:
    """Compares the clocks at each sentinel. At the end of the topic, its append time is the broker's current time.

    An older sentinel can only show that this clock is slow. `on_change` is called when a doubt expires without a
    sentinel.
    """

    def __init__(self, now: Callable[[], datetime], on_change: Callable[[], None]) -> None:
        self._now = now
        self._on_change = on_change
        self._skew_seconds = 0.0
        self._is_sentinel_old = False
        self._is_doubted = False

    @property
    def skew_seconds(self) -> float:
        """This machine's clock minus the broker's, at the last sentinel."""
        return self._skew_seconds

    @property
    def is_trusted(self) -> bool:
        """Whether `problems` is empty; cheaper to check for each delivery."""
        return not self._is_doubted and abs(self._skew_seconds) <= MAX_SKEW_SECONDS

    def problems(self) -> list[str]:
        """Why the clock cannot be trusted."""
        if abs(self._skew_seconds) > MAX_SKEW_SECONDS:
            return [f"this machine's clock is {self._skew_seconds:+.0f} s off the broker's: set it right"]
        if self._is_doubted:
            return ["the last sentinel is old: either this machine's clock is fast or `publish` is away"]
        return []

    def compare(self, appended_at: datetime, *, is_at_end: bool) -> None:
        """Take a sentinel."""
        skew = (self._now() - appended_at).total_seconds()
        self._is_sentinel_old = skew > MAX_SKEW_SECONDS
        self._skew_seconds = skew if is_at_end else min(skew, 0.0)
        self._is_doubted = False

    def on_end_reached(self) -> None:
        """Note that the end of the topic was reached for the first time."""
        if self._is_sentinel_old:
            # An old sentinel or a fast clock: the next sentinel shows which. If none comes, `publish` is down:
            # continue.
            self._is_doubted = True
            asyncio.get_running_loop().call_later(SENTINEL_TIMEOUT_SECONDS, self._clear_doubt)

    def _clear_doubt(self) -> None:
        self._is_doubted = False
        self._on_change()
