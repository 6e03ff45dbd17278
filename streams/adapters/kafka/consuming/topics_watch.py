"""Keep a consumer subscribed to topics that are created and deleted."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from streams.adapters.threads import run_in_daemon_thread
from streams.core.errors import Unavailable

CHECK_INTERVAL_SECONDS = 3.0
REQUEST_SECONDS = 2.0
# A broker that just started may not know every topic yet. Unsubscribing then would move partitions.
CHECKS_UNTIL_DELETED = 3


class TopicsWatch:
    """Lists the cluster's topics every three seconds, and subscribes to those that `is_read` selects.

    `subscribe` takes the topics with their partition counts.

    librdkafka's own patterns (`^...`) take up to ten seconds on a real broker. A stage is not ready while
    `required_topics` topics are missing.
    """

    def __init__(
        self,
        existing: Callable[[float], Mapping[str, int]],
        subscribe: Callable[[Mapping[str, int]], None],
        is_read: Callable[[str], bool],
        required_topics: Sequence[str],
        every_seconds: float = CHECK_INTERVAL_SECONDS,
    ) -> None:
        self._existing = existing
        self._subscribe = subscribe
        self._is_read = is_read
        self._required_topics = required_topics
        self._every_seconds = every_seconds
        self._partition_counts: dict[str, int] = {}
        self._absent_checks: Counter[str] = Counter()
        self.missing_topics: list[str] = []

    async def run(self) -> None:
        """Check every few seconds until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(self._every_seconds)

    async def check(self) -> None:
        """Check once. While no broker responds, nothing changes."""
        try:
            existing = await run_in_daemon_thread(lambda: self._existing(REQUEST_SECONDS))
        except Unavailable:
            return
        self._update(existing)
        self.missing_topics = [name for name in self._required_topics if name not in self._partition_counts]
        if partitions := {name: count for name, count in self._partition_counts.items() if self._is_read(name)}:
            self._subscribe(partitions)

    def _update(self, existing: Mapping[str, int]) -> None:
        self._absent_checks.update(self._partition_counts.keys() - existing.keys())
        for name in existing:
            self._absent_checks.pop(name, None)
        partition_counts = {
            name: count
            for name, count in self._partition_counts.items()
            if self._absent_checks[name] < CHECKS_UNTIL_DELETED
        }
        self._partition_counts = {**partition_counts, **existing}
