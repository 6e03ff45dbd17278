"""Launches count once, however many meters read them and however often; each threshold is reported once."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
import pytest_asyncio
from sqlalchemy import select

from builders import NOON
from contract.stores import SqlStore
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.adapters.sql.tables.usage import usage_notices
from streams.core.accounts.usage import Launch, LaunchBatch, NewLaunches, UsageCursor, UsageDetail, UsageMonth
from streams.core.deliveries.backfill import OffsetRange
from streams.core.events.event import Event
from streams.features.shared.accounts import SqlAccounts
from streams.features.usage.storage import SqlUsage, SqlUsageMeter

CODEC = AvroCodec()
TOPIC = "cluster/topic-1"


@pytest_asyncio.fixture
async def meter(database: SqlStore) -> SqlUsageMeter:
    made = SqlUsageMeter(database.database, CODEC)
    await made.positions(TOPIC, [0, 1])
    return made


def launch(number: int, account_id: str = "acme", package: str | None = "p") -> Launch:
    return Launch(account_id, f"evt_{number}", NOON + timedelta(seconds=number), package, None)


async def count(
    meter: SqlUsageMeter, moves: Sequence[OffsetRange], launches: Sequence[Launch], topic: str = TOPIC
) -> int | None:
    """How many launches are new; None for positions of another owner."""
    new = await meter.count(topic, moves, LaunchBatch(launches))
    return None if new is None else new.launches


async def set_limit(database: SqlStore, limit: int | None) -> None:
    from dataclasses import replace

    await SqlAccounts(database.database).change("acme", lambda account: replace(account, plan_limit=limit))


async def reported(database: SqlStore) -> list[tuple[int, int]]:
    """Percent and launches of the events that wait."""
    events = [CODEC.decode(one.value) for one in await SqlOutgoingEvents(database.database).list_due(100)]
    assert all(isinstance(one, Event) for one in events)
    return [(one.data["thresholdPercent"], one.data["launches"]) for one in events if isinstance(one, Event)]  # type: ignore[misc]


async def test_a_launch_counts_once_however_often_it_is_published(database: SqlStore, meter: SqlUsageMeter) -> None:
    assert await count(meter, [OffsetRange(0, 0, 3)], [launch(1), launch(2), launch(1)]) == 2
    moves = [OffsetRange(0, 3, 4), OffsetRange(1, 0, 1)]
    assert await count(meter, moves, [launch(2), launch(3, package=None)]) == 1
    usage = SqlUsage(database.database)
    assert await usage.months("acme", 12) == [UsageMonth("2026-04", 3)]
    assert await usage.largest("acme", "2026-04", 9) == [UsageDetail("p", None, 2), UsageDetail(None, None, 1)]
    in_order = [UsageDetail(None, None, 1), UsageDetail("p", None, 2)]
    assert await usage.details("acme", "2026-04", None, 9) == in_order
    assert await usage.details("acme", "2026-04", UsageCursor("", ""), 9) == in_order[1:]
    assert await usage.months("other", 12) == []


async def test_late_launches_are_part_of_no_total(database: SqlStore, meter: SqlUsageMeter) -> None:
    await set_limit(database, 2)
    late = [launch(1), launch(2), launch(2), launch(9)]
    assert await meter.count(TOPIC, [OffsetRange(0, 0, 5)], LaunchBatch([launch(9)], late)) == NewLaunches(1, 2)
    assert await meter.count(TOPIC, [OffsetRange(0, 5, 6)], LaunchBatch([launch(2)], [launch(3)])) == NewLaunches(0, 1)
    usage = SqlUsage(database.database)
    assert await usage.months("acme", 12) == [UsageMonth("2026-04", 1, 3)]
    assert await usage.details("acme", "2026-04", None, 9) == [UsageDetail("p", None, 1)]
    assert await reported(database) == []
    assert await count(meter, [OffsetRange(0, 6, 7)], [launch(4)]) == 1
    assert await reported(database) == [(80, 2), (100, 2)]


async def test_the_same_id_in_two_accounts_counts_twice(database: SqlStore, meter: SqlUsageMeter) -> None:
    assert await count(meter, [OffsetRange(0, 0, 2)], [launch(1), launch(1, "globex")]) == 2


async def test_a_second_owner_counts_nothing(database: SqlStore, meter: SqlUsageMeter) -> None:
    assert await count(meter, [OffsetRange(0, 0, 2)], [launch(1)]) == 1
    for moves in ([OffsetRange(0, 0, 5)], [OffsetRange(1, 0, 1), OffsetRange(0, 1, 5)]):
        assert await count(meter, moves, [launch(9)]) is None
    assert await SqlUsage(database.database).months("acme", 1) == [UsageMonth("2026-04", 1)]
    assert await meter.positions(TOPIC, [0, 1]) == {0: 2, 1: 0}


async def test_a_topic_that_was_made_again_begins_at_its_start(meter: SqlUsageMeter) -> None:
    await count(meter, [OffsetRange(0, 0, 50)], [launch(1)])
    assert await meter.positions("cluster/topic-2", [0, 1]) == {0: 0, 1: 0}
    assert await count(meter, [OffsetRange(0, 50, 51)], [launch(2)]) is None
    # An event that was counted from the old topic stays counted once.
    assert await count(meter, [OffsetRange(0, 0, 2)], [launch(1), launch(2)], "cluster/topic-2") == 1


async def test_both_thresholds_of_one_batch_are_reported_once(database: SqlStore, meter: SqlUsageMeter) -> None:
    await set_limit(database, 10)
    await count(meter, [OffsetRange(0, 0, 12)], [launch(number) for number in range(12)])
    assert await reported(database) == [(80, 8), (100, 10)]
    await count(meter, [OffsetRange(0, 12, 13)], [launch(20)])
    assert len(await reported(database)) == 2
    [first] = await SqlOutgoingEvents(database.database).list_due(1)
    assert isinstance(event := CODEC.decode(first.value), Event)
    assert event.occurred_at == launch(7).at
    outgoing = SqlOutgoingEvents(database.database)
    await outgoing.remove([one.id for one in await outgoing.list_due(10)])
    assert await reported(database) == []


async def test_a_raised_limit_does_not_repeat_a_threshold(database: SqlStore, meter: SqlUsageMeter) -> None:
    await set_limit(database, 5)
    await count(meter, [OffsetRange(0, 0, 4)], [launch(number) for number in range(4)])
    await set_limit(database, 8)
    await count(meter, [OffsetRange(0, 4, 9)], [launch(number) for number in range(4, 9)])
    async with database.database.read_transaction() as connection:
        rows = (await connection.execute(select(usage_notices).order_by(usage_notices.c.percent))).all()
    assert [(row.percent, row.launches, row.plan_limit) for row in rows] == [(80, 4, 5), (100, 8, 8)]


@pytest.mark.parametrize("limit", [None, 0])
async def test_without_a_limit_nothing_is_reported(database: SqlStore, meter: SqlUsageMeter, limit: int | None) -> None:
    await set_limit(database, limit)
    await count(meter, [OffsetRange(0, 0, 3)], [launch(number) for number in range(3)])
    assert await reported(database) == []


async def test_two_owners_at_once_count_each_launch_once(database: SqlStore, meter: SqlUsageMeter) -> None:
    other = SqlUsageMeter(database.database, CODEC)
    launches = [launch(number) for number in range(200)]
    counts = await asyncio.gather(
        count(meter, [OffsetRange(0, 0, 200)], launches),
        count(other, [OffsetRange(1, 0, 200)], launches[::-1]),
        count(other, [OffsetRange(0, 0, 200)], launches),
    )
    assert sum(count or 0 for count in counts) == 200
    assert await SqlUsage(database.database).months("acme", 1) == [UsageMonth("2026-04", 200)]
