"""Metrics of the whole deployment, exposed by the one active `maintain` process."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import NoReturn

from streams.core.deliveries.backlog import Backlog, GroupOffsets, LagClock, WaitingCount
from streams.core.errors import Unavailable
from streams.core.failed_work import WorkKind
from streams.ports.kafka import GroupLags, Partition
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import Backlogs
from streams.stages.postponed_work import PostponedWork
from streams.tasks import run_until_first_ends

READ_INTERVAL_SECONDS = 15.0
# Reading many rows is repeated less often, so that it takes at most a twentieth of the time.
INTERVAL_FACTOR = 20


def pause_after(elapsed: float) -> float:
    """The seconds between two readings, after one that took `elapsed`."""
    return max(READ_INTERVAL_SECONDS, INTERVAL_FACTOR * elapsed)


async def expose_backlog(
    backlogs: Backlogs,
    lags: GroupLags,
    clock: Clock,
    telemetry: Telemetry,
    postponed_work: PostponedWork,
    pause: Callable[[float], float] = pause_after,
) -> None:
    """Read the backlog and expose it until cancelled. In an outage the last values stay."""
    clocks: defaultdict[tuple[str, Partition], LagClock] = defaultdict(LagClock)

    async def expose_deliveries() -> None:
        async with postponed_work.unit(WorkKind.BACKLOG, "deliveries"):
            _expose_deliveries(await backlogs.read(), clock.now(), telemetry)

    async def expose_groups() -> None:
        _expose_groups(await lags.offsets(), clocks, clock.now(), telemetry)

    telemetry.gauge("maintainer", 1)
    await run_until_first_ends(
        lambda: _run_regularly(expose_deliveries, pause), lambda: _run_regularly(expose_groups, pause)
    )


async def _run_regularly(expose: Callable[[], Awaitable[None]], pause: Callable[[float], float]) -> NoReturn:
    while True:
        started_at = time.monotonic()
        with suppress(Unavailable):  # Others log the outage.
            await expose()
        await asyncio.sleep(pause(time.monotonic() - started_at))


def _expose_deliveries(backlog: Backlog, now: datetime, telemetry: Telemetry) -> None:
    telemetry.gauge_all("webhooks", {(status,): count for status, count in backlog.webhooks.items()})
    for count, age, by_name in (
        ("retries_waiting", "retries_overdue_seconds", backlog.retries),
        ("held_deliveries", "held_deliveries_oldest_seconds", backlog.held),
        ("undecided_dead_letters", "undecided_dead_letters_oldest_seconds", backlog.dead),
    ):
        telemetry.gauge_all(count, {(name,): group.deliveries for name, group in by_name.items()})
        telemetry.gauge_all(age, {(name,): _age(group, now) for name, group in by_name.items()})


def _age(deliveries: WaitingCount, now: datetime) -> float:
    return max(0.0, (now - deliveries.since).total_seconds()) if deliveries.since else 0.0


def _expose_groups(
    offsets: Mapping[str, Mapping[Partition, GroupOffsets]],
    clocks: Mapping[tuple[str, Partition], LagClock],
    now: datetime,
    telemetry: Telemetry,
) -> None:
    records: defaultdict[tuple[str, ...], float] = defaultdict(float)
    seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for group, partitions in offsets.items():
        for partition, lag in partitions.items():
            name = group, partition.topic
            records[name] += max(0, lag.end - lag.committed)
            seconds[name] = max(seconds[name], clocks[group, partition].lag_seconds(lag, now))
    telemetry.gauge_all("group_lag_records", records)
    telemetry.gauge_all("group_lag_seconds", seconds)
