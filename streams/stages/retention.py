"""Retention: delete old rows as fast as they age."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

from streams.core.errors import Unavailable
from streams.core.portion import Portion, throttle_seconds
from streams.outage import RETENTION, Outage
from streams.ports import Clock, Prunable, PruneResult, Pruning, Telemetry
from streams.tasks import together

PRUNE_EVERY_SECONDS = 300.0
# Of all kinds: the others wait without a connection, because the pool may have five for the whole process.
STATEMENTS_AT_ONCE = 2


async def prune_regularly(
    pruning: Pruning, keep: Mapping[Prunable, timedelta], clock: Clock, telemetry: Telemetry
) -> None:
    """Delete the rows that are older than the retention of their kind, until cancelled. The kinds work side by side.

    A kind that cannot be deleted, for example because a permission is missing, delays no other.
    """
    turns, lags = asyncio.Semaphore(STATEMENTS_AT_ONCE), dict[tuple[str, ...], float]()
    kinds = [
        _KindRetention(pruning, prunable, retention, clock, telemetry, turns, lags)
        for prunable, retention in keep.items()
    ]
    await together(*(kind.run for kind in kinds))


class _KindRetention:
    """Deletes the old rows of one kind."""

    def __init__(
        self,
        pruning: Pruning,
        prunable: Prunable,
        retention: timedelta,
        clock: Clock,
        telemetry: Telemetry,
        turns: asyncio.Semaphore,
        lags: dict[tuple[str, ...], float],
    ) -> None:
        self._pruning = pruning
        self._what = prunable
        self._kept = retention
        self._clock = clock
        self._telemetry = telemetry
        self._turns = turns
        self._behind = lags
        self._name = prunable.name.lower()
        self._outage = Outage(telemetry, RETENTION, {"kind": self._name})
        self._portion = Portion()
        self._before = clock.now() - retention

    async def run(self) -> NoReturn:
        while True:
            try:
                await self._catch_up()
            except Unavailable as error:
                self._outage.begin(self, str(error))
            else:
                self._outage.end(self)
            with suppress(Unavailable):  # The next round logs it.
                await self._look()
            await asyncio.sleep(PRUNE_EVERY_SECONDS)

    async def _catch_up(self) -> None:
        """Delete portion after portion, until one is not full."""
        reached = None
        while True:
            limit, self._before = self._portion.rows, self._clock.now() - self._kept
            async with self._turns:
                result = await self._pruning.prune(self._what, self._before, limit, reached)
            self._telemetry.count("rows_pruned_total", result.rows, kind=self._name)
            self._portion = self._portion.adapt(result.rows, result.seconds)
            if result.rows < limit:
                return
            reached = result.reached
            await self._pause(result)

    async def _pause(self, result: PruneResult) -> None:
        lag = self._before - result.reached if result.reached else timedelta()
        if result.reached:
            self._expose(lag)
        await asyncio.sleep(throttle_seconds(result.seconds, lag, is_only_writer=self._pruning.is_only_writer))

    async def _look(self) -> None:
        async with self._turns:
            oldest = await self._pruning.oldest(self._what, self._before)
        self._expose(self._before - oldest if oldest else timedelta())

    def _expose(self, lag: timedelta) -> None:
        self._behind[(self._name,)] = lag.total_seconds()
        self._telemetry.gauge_all("retention_behind_seconds", self._behind)
