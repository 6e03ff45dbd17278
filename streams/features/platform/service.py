"""Figures of all accounts for operators: their webhooks, waiting deliveries, and the lag of the stages."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from streams.core.accounts.platform_stats import AccountSummary, StageLag, WebhookProblem
from streams.core.accounts.usage import UnknownAccount
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.events.event_data import is_storable
from streams.core.failed_work import FAILING_PERIOD, FailedWork
from streams.core.page import Cursor, Page
from streams.features.platform.storage import SqlPlatformStats
from streams.ports.kafka import GroupLags, Partition
from streams.ports.runtime import Clock

MAX_WEBHOOKS = 50
MAX_UNKNOWN_ACCOUNTS = 20
MAX_FAILED_WORK = 50
SLOW_HOURS = 2


@dataclass
class PlatformService:
    """Reads across accounts, for operators only."""

    _stats: SqlPlatformStats
    _lags: GroupLags
    _clock: Clock
    # The newest accounts that events named but that do not exist, at most this many.
    _unknown_accounts: Callable[[int], Awaitable[Sequence[UnknownAccount]]]
    # The newest failed work, at most this many.
    _failed_work: Callable[[int], Awaitable[Sequence[FailedWork]]]

    async def accounts(self, cursor: Cursor | None, limit: int, name: str | None = None) -> Page[AccountSummary]:
        """The accounts, newest first; with `name`, those whose name or id contains it."""
        return await self._stats.accounts(cursor, limit, name if name and is_storable(name) else None)

    async def list_failing_webhooks(self) -> Sequence[WebhookProblem]:
        """Webhooks that fail or are paused by failures, the newest failure first."""
        return await self._stats.list_failing_webhooks(MAX_WEBHOOKS)

    async def list_slowest_webhooks(self) -> Sequence[WebhookProblem]:
        """Webhooks with the longest mean time of an attempt in the last hours."""
        this_hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        return await self._stats.list_slowest_webhooks(this_hour - timedelta(hours=SLOW_HOURS - 1), 10)

    async def failed_work(self) -> Sequence[FailedWork]:
        """The work that fails because of its row, the newest failure first."""
        failing_since = self._clock.now() - FAILING_PERIOD
        return [work for work in await self._failed_work(MAX_FAILED_WORK) if work.last_failed_at >= failing_since]

    async def unknown_accounts(self, limit: int = MAX_UNKNOWN_ACCOUNTS) -> Sequence[UnknownAccount]:
        """Accounts that events named but that do not exist, the newest event first."""
        return await self._unknown_accounts(limit)

    async def waiting_by_tier(self) -> Mapping[str, int]:
        """How many deliveries wait, by tier, the shortest wait first; '' is for deliveries about to be sent."""
        return await self._stats.waiting_by_tier()

    async def lags(self) -> Sequence[StageLag]:
        """How many records each stage has not committed. Raises `Unavailable`."""
        return stage_lags(await self._lags.offsets())


def stage_lags(offsets: Mapping[str, Mapping[Partition, GroupOffsets]]) -> list[StageLag]:
    """The records that each stage has not committed, by topic. `offsets` has the offsets of each stage's consumer
    group.
    """
    lags = []
    for stage, partitions in offsets.items():
        topics: Counter[str] = Counter()
        for partition, found in partitions.items():
            topics[partition.topic] += max(0, found.end - found.committed)
        lags.append(StageLag(stage, topics))
    return lags
