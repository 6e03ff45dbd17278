"""Keep a consumer subscribed to topics that are created and deleted."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from streams.adapters.threads import in_daemon_thread
from streams.core.errors import Unavailable

CHECK_EVERY_SECONDS = 3.0
REQUEST_SECONDS = 2.0
# A broker that just started may not know every topic yet. To unsubscribe then would move partitions.
DELETED_AFTER_CHECKS = 3


class TopicsWatch:
    """Lists the cluster's topics every three seconds, and subscribes to those that `is_read` selects.

    `subscribe` takes the topics with their partition counts.

    librdkafka's own patterns (`^...`) take up to ten seconds on a real broker. A stage is not ready while `required`
    topics are missing.
    """

    def __init__(
        self,
        existing: Callable[[float], Mapping[str, int]],
        subscribe: Callable[[Mapping[str, int]], None],
        is_read: Callable[[str], bool],
        required_topics: Sequence[str],
        every_seconds: float = CHECK_EVERY_SECONDS,
    ) -> None:
        self._existing = existing
        self._subscribe = subscribe
        self._is_read = is_read
        self._required = required_topics
        self._every_seconds = every_seconds
        self._known: dict[str, int] = {}
        self._absent: Counter[str] = Counter()
        self.missing: list[str] = []

    async def run(self) -> None:
        """Check every few seconds until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._every_seconds)

    async def check(self) -> None:
        """Check once. While no broker answers, nothing changes."""
        try:
            existing = await in_daemon_thread(lambda: self._existing(REQUEST_SECONDS))
        except Unavailable:
            return
        self._update(existing)
        self.missing = [name for name in self._required if name not in self._known]
        if partitions := {name: count for name, count in self._known.items() if self._is_read(name)}:
            self._subscribe(partitions)

    def _update(self, existing: Mapping[str, int]) -> None:
        self._absent.update(self._known.keys() - existing.keys())
        for name in existing:
            self._absent.pop(name, None)
        partition_counts = {
            name: count for name, count in self._known.items() if self._absent[name] < DELETED_AFTER_CHECKS
        }
        self._known = {**partition_counts, **existing}
