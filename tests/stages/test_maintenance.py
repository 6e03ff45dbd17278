"""Maintenance prunes in small batches, and continues after an outage."""

import asyncio
from collections import Counter
from datetime import datetime, timedelta

import pytest

from builders import NOON
from fakes import FakeClock, FakeTelemetry, cancel_others
from streams.core.errors import Unavailable
from streams.ports import Prunable
from streams.stages import maintenance
from streams.stages.maintenance import prune_regularly


class FakePruning:
    """A `Pruning` with old rows of each kind; its first `away` calls fail."""

    def __init__(self, *, away: int = 0, **rows: int) -> None:
        self.rows = Counter({Prunable[name]: count for name, count in rows.items()})
        self.before: dict[Prunable, datetime] = {}
        self.away = away

    async def prune(self, what: Prunable, before: datetime, limit: int) -> int:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        self.before[what] = before
        gone = min(limit, self.rows[what])
        self.rows[what] -= gone
        return gone


async def test_old_rows_are_pruned_in_batches_through_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PORTION_PAUSE_SECONDS", "PRUNE_EVERY_SECONDS"):
        monkeypatch.setattr(maintenance, name, 0)
    pruning, telemetry = FakePruning(away=1, DELIVERIES=2500, AUDIT=1), FakeTelemetry()
    keep = {Prunable.DELIVERIES: timedelta(days=30), Prunable.AUDIT: timedelta(days=365)}
    running = asyncio.create_task(prune_regularly(pruning, keep, FakeClock(), telemetry))
    async with asyncio.timeout(5):
        while pruning.rows.total():
            assert not running.done()
            await asyncio.sleep(0)
    await cancel_others()
    assert telemetry.counts["rows_pruned_total"] == 2501
    assert pruning.before == {what: NOON - kept for what, kept in keep.items()}
