"""Retention: delete old rows as fast as they age."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import NoReturn

from streams.core.batch_size import BatchSize, throttle_seconds
from streams.core.errors import Unavailable
from streams.core.failed_work import WorkKind
from streams.outage import PRUNING_OUTAGE, Outage
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import Prunable, PruneResult, Pruning
from streams.stages.postponed_work import PostponedWork
from streams.tasks import run_until_first_ends

PRUNE_INTERVAL_SECONDS = 300.0
# For all kinds together: further kinds wait without a connection, because the process's pool may have only five.
MAX_CONCURRENT_STATEMENTS = 2


async def prune_regularly(
    pruning: Pruning,
    retentions: Mapping[Prunable, timedelta],
    clock: Clock,
    telemetry: Telemetry,
    postponed_work: PostponedWork,
    *,
    interval_seconds: float = PRUNE_INTERVAL_SECONDS,
) -> None:
    """Delete the rows that are older than the retention of their kind, until cancelled. Kinds are handled in parallel.

    If one kind cannot be deleted, such as for a missing permission or a bad row, the others still are.
    """
    statement_slots, lags = asyncio.Semaphore(MAX_CONCURRENT_STATEMENTS), dict[tuple[str, ...], float]()
    kinds = [
        _KindRetention(
            pruning, prunable, retention, clock, telemetry, postponed_work, statement_slots, lags, interval_seconds
        )
        for prunable, retention in retentions.items()
    ]
    await run_until_first_ends(*(kind.run for kind in kinds))


class _KindRetention:
    """Deletes the old rows of one kind."""

    def __init__(
        self,
        pruning: Pruning,
        prunable: Prunable,
        retention: timedelta,
        clock: Clock,
        telemetry: Telemetry,
        postponed_work: PostponedWork,
        statement_slots: asyncio.Semaphore,
        lags: dict[tuple[str, ...], float],
        interval_seconds: float,
    ) -> None:
        self._pruning = pruning
        self._prunable = prunable
        self._retention = retention
        self._clock = clock
        self._telemetry = telemetry
        self._postponed_work = postponed_work
        self._statement_slots = statement_slots
        self._lags = lags
        self._interval_seconds = interval_seconds
        self._name = prunable.name.lower()
        self._outage = Outage(telemetry, PRUNING_OUTAGE, {"kind": self._name})
        self._batch_size = BatchSize()
        self._cutoff = clock.now() - retention

    async def run(self) -> NoReturn:
        while True:
            async with self._postponed_work.unit(WorkKind.RETENTION, self._name):
                await self._prune()
            await asyncio.sleep(self._interval_seconds)

    async def _prune(self) -> None:
        try:
            await self._catch_up()
        except Unavailable as error:
            self._outage.begin(self, str(error))
        else:
            self._outage.end(self)
        with suppress(Unavailable):  # The next round logs it.
            await self._measure_lag()

    async def _catch_up(self) -> None:
        """Delete batches until one is not full."""
        reached_at = None
        while True:
            limit, self._cutoff = self._batch_size.rows, self._clock.now() - self._retention
            async with self._statement_slots:
                result = await self._pruning.prune(self._prunable, self._cutoff, limit, reached_at)
            self._telemetry.count("rows_pruned_total", result.rows, kind=self._name)
            self._batch_size = self._batch_size.adapt(result.rows, result.seconds)
            if result.rows < limit:
                return
            reached_at = result.reached
            await self._pause(result)

    async def _pause(self, result: PruneResult) -> None:
        lag = self._cutoff - result.reached if result.reached else timedelta()
        if result.reached:
            self._expose_lag(lag)
        await asyncio.sleep(throttle_seconds(result.seconds, lag, is_only_writer=self._pruning.is_only_writer))

    async def _measure_lag(self) -> None:
        async with self._statement_slots:
            oldest_at = await self._pruning.oldest_time(self._prunable, self._cutoff)
        self._expose_lag(self._cutoff - oldest_at if oldest_at else timedelta())

    def _expose_lag(self, lag: timedelta) -> None:
        self._lags[(self._name,)] = lag.total_seconds()
        self._telemetry.gauge_all("retention_behind_seconds", self._lags)
