"""Wait until a step of a stage succeeds."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeVar

from streams.core.errors import Unavailable
from streams.ports import Telemetry

Result = TypeVar("Result")


class OutageRetry:
    """Repeats a step while what it needs is `Unavailable`; several may wait for the same, and it is told once."""

    def __init__(self, telemetry: Telemetry, entry: str) -> None:
        self._telemetry = telemetry
        self._fact = entry
        # How many wait, by what for.
        self._waits_for: Counter[str] = Counter()

    async def until_done(self, step: Callable[[], Awaitable[Result]], every_seconds: float) -> Result:
        """What the step returns once it succeeds."""
        met: str | None = None
        while True:
            try:
                result = await step()
            except Unavailable as away:
                if met is None:
                    met = str(away)
                    if not self._waits_for[met]:
                        self._telemetry.warning(self._fact, why=met)
                    self._waits_for[met] += 1
                await asyncio.sleep(every_seconds)
            else:
                if met is not None:
                    self._waits_for[met] -= 1
                return result
