"""Retention deletes each kind in portions, as fast as rows age, and says how far it is behind."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime, timedelta

import pytest_asyncio

from builders import NOON
from fakes import FakeClock, FakeTelemetry, cancel_others, postponed_work, quiet, until
from streams.core.batch_size import MAX_BATCH_ROWS, MAX_THROTTLED_BACKLOG_AGE
from streams.core.errors import Unavailable
from streams.ports.storage import Prunable, PruneResult
from streams.stages.retention import MAX_CONCURRENT_STATEMENTS, prune_regularly

MONTH, YEAR = timedelta(days=30), timedelta(days=365)
KEEP = {Prunable.DELIVERIES: MONTH, Prunable.AUDIT: YEAR}


class FakePruning:
    """A `Pruning` with rows of each kind, by age. Its statements take `seconds`, but for those of `stuck` kinds.

    Its first `away` calls fail, and all that delete a kind in `denied`.
    """

    is_only_writer = False

    def __init__(
        self,
        rows: Mapping[Prunable, list[datetime]],
        *,
        seconds: float = 0.0,
        away: int = 0,
        denied: Collection[Prunable] = (),
        stuck: Collection[Prunable] = (),
    ) -> None:
        self.rows = {what: sorted(ages) for what, ages in rows.items()}
        self.seconds, self.away = seconds, away
        self.denied, self.stuck = set(denied), set(stuck)
        self.portions: list[tuple[Prunable, int]] = []
        self.most_at_once = self._at_once = 0

    async def prune(self, what: Prunable, before: datetime, limit: int, since: datetime | None = None) -> PruneResult:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0)
            while what in self.stuck:
                await asyncio.sleep(0)
            return self._pruned(what, before, limit, since)
        finally:
            self._at_once -= 1

    def _pruned(self, what: Prunable, before: datetime, limit: int, since: datetime | None) -> PruneResult:
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        if what in self.denied:
            raise Unavailable("permission denied")
        old = [age for age in self.rows.get(what, ()) if age < before and (since is None or age >= since)][:limit]
        for age in old:
            self.rows[what].remove(age)
        self.portions.append((what, len(old)))
        return PruneResult(len(old), old[-1] if old else None, self.seconds)

    async def oldest_time(self, what: Prunable, before: datetime) -> datetime | None:
        await asyncio.sleep(0)
        return next((age for age in self.rows.get(what, ()) if age < before), None)

    @property
    def left(self) -> int:
        return sum(map(len, self.rows.values()))


class Fixture:
    """Retention of some rows."""

    def __init__(self) -> None:
        self.clock, self.telemetry = FakeClock(), FakeTelemetry()

    def start(
        self, pruning: FakePruning, keep: Mapping[Prunable, timedelta] = KEEP, interval_seconds: float = 0
    ) -> None:
        work = postponed_work(self.telemetry)
        self.running = asyncio.create_task(
            prune_regularly(pruning, keep, self.clock, self.telemetry, work, interval_seconds=interval_seconds)
        )

    @property
    def behind(self) -> Mapping[tuple[str, ...], float]:
        return self.telemetry.replaced.get("retention_behind_seconds", {})


@pytest_asyncio.fixture
async def fixture() -> AsyncIterator[Fixture]:
    yield Fixture()
    await cancel_others()


def old(kept: timedelta, by: timedelta, count: int = 1) -> list[datetime]:
    """Rows that are so much older than their retention."""
    return [NOON - kept - by] * count


async def test_old_rows_are_pruned_in_portions_through_an_outage(fixture: Fixture) -> None:
    young = [NOON - MONTH]
    rows = {Prunable.DELIVERIES: old(MONTH, YEAR, 2500) + young, Prunable.AUDIT: old(YEAR, MONTH)}
    pruning = FakePruning(rows, away=1)
    fixture.start(pruning)
    await until(lambda: pruning.left == 1)
    assert pruning.rows[Prunable.DELIVERIES] == young
    assert fixture.telemetry.counts["rows_pruned_total"] == 2501
    assert not fixture.running.done()


async def test_rows_that_cannot_be_deleted_keep_no_others(fixture: Fixture) -> None:
    rows = {Prunable.AUDIT: old(YEAR, MONTH), Prunable.DELIVERIES: old(MONTH, MONTH)}
    pruning = FakePruning(rows, denied=[Prunable.AUDIT])
    fixture.start(pruning)
    await until(lambda: not pruning.rows[Prunable.DELIVERIES])
    await until(lambda: len(fixture.behind) == 2)
    assert fixture.telemetry.logged == [("retention_postponed", {"why": "permission denied", "kind": "audit"})]
    assert fixture.behind == {("audit",): MONTH.total_seconds(), ("deliveries",): 0}
    pruning.denied.clear()
    await until(lambda: pruning.left == 0)
    await until(lambda: fixture.telemetry.logged_count("retention_resumed") == 1)
    await until(lambda: fixture.behind["audit",] == 0)


async def test_a_kind_that_takes_long_delays_no_other(fixture: Fixture) -> None:
    rows = {Prunable.AUDIT: old(YEAR, MONTH), Prunable.DELIVERIES: old(MONTH, MONTH, 5000)}
    pruning = FakePruning(rows, stuck=[Prunable.AUDIT])
    fixture.start(pruning)
    await until(lambda: not pruning.rows[Prunable.DELIVERIES])
    assert pruning.left == 1


async def test_kinds_use_few_connections(fixture: Fixture) -> None:
    rows = {what: old(MONTH, MONTH, 3000) for what in Prunable}
    pruning = FakePruning(rows)
    fixture.start(pruning, dict.fromkeys(Prunable, MONTH))
    await until(lambda: pruning.left == 0)
    assert pruning.most_at_once == MAX_CONCURRENT_STATEMENTS


async def test_a_rest_uses_no_connection(fixture: Fixture) -> None:
    """Each kind rests for a quarter of an hour here, and the next one begins."""
    rows = {what: old(MONTH, timedelta(minutes=1), 3000) for what in Prunable}
    pruning = FakePruning(rows, seconds=900)
    fixture.start(pruning, dict.fromkeys(Prunable, MONTH))
    await until(lambda: {what for what, _ in pruning.portions} == set(Prunable))
    await quiet()
    assert len(pruning.portions) == len(Prunable)


async def test_there_is_no_rest_while_it_falls_behind(fixture: Fixture) -> None:
    pruning = FakePruning({Prunable.DELIVERIES: old(MONTH, MAX_THROTTLED_BACKLOG_AGE * 2, 3000)}, seconds=900)
    fixture.start(pruning)
    await until(lambda: pruning.left == 0)


async def test_the_only_writer_rests_after_each_portion(fixture: Fixture) -> None:
    pruning = FakePruning({Prunable.DELIVERIES: old(MONTH, MAX_THROTTLED_BACKLOG_AGE * 2, 3000)}, seconds=900)
    pruning.is_only_writer = True
    fixture.start(pruning)
    await until(lambda: len(pruning.portions) > 0)
    await quiet()
    assert [what for what, _ in pruning.portions].count(Prunable.DELIVERIES) == 1


async def test_portions_grow_while_statements_are_quick(fixture: Fixture) -> None:
    pruning = FakePruning({Prunable.DELIVERIES: old(MONTH, YEAR, 3 * MAX_BATCH_ROWS)}, seconds=0.001)
    fixture.start(pruning, {Prunable.DELIVERIES: MONTH})
    await until(lambda: pruning.left == 0)
    assert [rows for _, rows in pruning.portions][:5] == [1000, 2000, 4000, 8000, MAX_BATCH_ROWS]


async def test_it_says_how_far_it_is_behind_meanwhile(fixture: Fixture) -> None:
    ages = old(MONTH, YEAR, 1000) + old(MONTH, timedelta(minutes=1), 3000)
    pruning = FakePruning({Prunable.DELIVERIES: ages}, seconds=900)
    fixture.start(pruning, {Prunable.DELIVERIES: MONTH})
    await until(lambda: fixture.behind == {("deliveries",): 60})
    assert len(pruning.rows[Prunable.DELIVERIES]) > 0


async def test_a_rest_follows_when_it_keeps_up(fixture: Fixture) -> None:
    pruning = FakePruning({Prunable.DELIVERIES: old(MONTH, YEAR)})
    fixture.start(pruning, {Prunable.DELIVERIES: MONTH}, interval_seconds=900)
    await until(lambda: fixture.behind == {("deliveries",): 0})
    pruning.rows[Prunable.DELIVERIES] += old(MONTH, YEAR)
    await quiet()
    assert pruning.left == 1
