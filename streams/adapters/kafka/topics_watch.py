"""Keeps a consumer subscribed to topics that come and go."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from streams.adapters.threads import in_daemon_thread
from streams.core.errors import Unavailable

LOOK_EVERY_SECONDS = 3.0
ASK_SECONDS = 2.0
# A broker that has just started may not know every topic yet: to drop one for that would move its partitions.
GONE_AFTER_LOOKS = 3


class Subscriber(Protocol):
    """A consumer whose topics may change."""

    def subscribe(self, partitions: Mapping[str, int]) -> None: ...


class TopicsWatch:
    """Looks at the cluster's topics every three seconds, and subscribes to each that `is_read` selects.

    librdkafka's own patterns (`^...`) take up to ten seconds on a real broker. `required` topics that are missing
    keep the stage from being ready.
    """

    def __init__(
        self,
        existing: Callable[[float], Mapping[str, int]],
        subscriber: Subscriber,
        is_read: Callable[[str], bool],
        required: Sequence[str],
        every_seconds: float = LOOK_EVERY_SECONDS,
    ) -> None:
        self._existing = existing
        self._subscriber = subscriber
        self._is_read = is_read
        self._required = required
        self._every_seconds = every_seconds
        self._known: dict[str, int] = {}
        self._absent: Counter[str] = Counter()
        self.missing: list[str] = []

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._every_seconds)

    async def look(self) -> None:
        """Look once. While no broker answers everything stays as it is."""
        try:
            existing = await in_daemon_thread(lambda: self._existing(ASK_SECONDS))
        except Unavailable:
            return
        self._update(existing)
        self.missing = [name for name in self._required if name not in self._known]
        if partitions := {name: count for name, count in self._known.items() if self._is_read(name)}:
            self._subscriber.subscribe(partitions)

    def _update(self, existing: Mapping[str, int]) -> None:
        self._absent.update(self._known.keys() - existing.keys())
        for name in existing:
            self._absent.pop(name, None)
        kept = {name: count for name, count in self._known.items() if self._absent[name] < GONE_AFTER_LOOKS}
        self._known = {**kept, **existing}
