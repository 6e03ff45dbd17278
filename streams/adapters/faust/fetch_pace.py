"""How a fetch waits: for the next event while few come, for those of a moment while many do."""

import asyncio
from collections.abc import Callable

# A fetch costs as much as ten events in a batch, and costs the broker too.
MAX_GATHER_MS = 20
MAX_GATHER_BYTES = 262_144
MANY_EVENTS_PER_SECOND = 400
WINDOW_SECONDS = 0.1

# Sets how long a fetch may wait, in milliseconds, and for how many bytes.
SetFetch = Callable[[int, int], None]


class FetchPace:
    """Judges ten times a second whether many events come; rests while none do."""

    def __init__(self, set_fetch: SetFetch, wait_ms: int) -> None:
        self._set_fetch = set_fetch
        self._wait_ms = wait_ms
        self._count = 0
        self._is_gathering = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_judging(self) -> bool:
        """Whether events came in the last window."""
        return self._timer is not None

    def add_events(self, events: int) -> None:
        """Note that these events were read."""
        self._count += events
        if self._timer is None:
            self._judge_later()

    def _judge_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WINDOW_SECONDS, self._judge)

    def _judge(self) -> None:
        has_events, is_gathering = self._count > 0, self._count >= MANY_EVENTS_PER_SECOND * WINDOW_SECONDS
        if is_gathering != self._is_gathering:
            self._is_gathering = is_gathering
            self._set_fetch(
                *((min(MAX_GATHER_MS, self._wait_ms), MAX_GATHER_BYTES) if is_gathering else (self._wait_ms, 1))
            )
        self._count, self._timer = 0, None
        if has_events:
            self._judge_later()
