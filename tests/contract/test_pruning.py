"""Old rows are found by an index, the oldest first, and the oldest that is left is known."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import URL, Connection, delete, event, insert, select, text

from builders import NOON, attempt, webhook
from contract.stores import SqlStore, failed, publish_all
from fakes import FakeTelemetry, postponed_work, until
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.deliveries import attempts, deliveries, events, pauses, webhook_health, webhooks
from streams.adapters.sql.tables.usage import counted_launches
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.held import HeldChoice
from streams.core.webhooks.webhook import Registration
from streams.ports.storage import Prunable
from streams.stages.retention import prune_regularly

MINUTE = timedelta(minutes=1)
LATER = NOON + timedelta(days=1)


async def deliver(database: SqlStore, count: int) -> None:
    """Record deliveries, one a minute."""
    made = [RecordedValue(attempt(event_id=f"evt_{number:05}"), NOON + number * MINUTE) for number in range(count)]
    await database.recorder.record(merge_records(made))


async def left(database: SqlStore) -> list[str]:
    return sorted(one.event_id for one in (await database.delivery_log.list(DeliveryFilter(limit=100))).rows)


async def test_the_oldest_rows_are_deleted_first(database: SqlStore) -> None:
    await deliver(database, 5)
    pruned = await SqlPruning(database.database).prune(Prunable.DELIVERIES, LATER, 2)
    assert (pruned.rows, pruned.reached) == (2, NOON + MINUTE)
    assert pruned.seconds > 0
    assert await left(database) == ["evt_00002", "evt_00003", "evt_00004"]


async def test_a_portion_begins_where_the_last_one_ended(database: SqlStore) -> None:
    await deliver(database, 5)
    pruning = SqlPruning(database.database)
    assert (await pruning.prune(Prunable.DELIVERIES, LATER, 10, NOON + 3 * MINUTE)).rows == 2
    assert await left(database) == ["evt_00000", "evt_00001", "evt_00002"]
    assert (await pruning.prune(Prunable.DELIVERIES, LATER, 10)).rows == 3
    assert [await database.count(table) for table in (deliveries, attempts, events)] == [0, 0, 0]


async def test_the_oldest_row_is_found(database: SqlStore) -> None:
    await deliver(database, 2)
    pruning = SqlPruning(database.database)
    assert await pruning.oldest_time(Prunable.DELIVERIES, LATER) == NOON
    assert await pruning.oldest_time(Prunable.DELIVERIES, NOON) is None
    await pruning.prune(Prunable.DELIVERIES, LATER, 10)
    assert await pruning.oldest_time(Prunable.DELIVERIES, LATER) is None


@pytest.mark.parametrize("what", Prunable)
async def test_of_no_kind_is_there_an_oldest_row(database: SqlStore, what: Prunable) -> None:
    pruning = SqlPruning(database.database)
    assert await pruning.oldest_time(what, LATER) is None
    assert (await pruning.prune(what, LATER, 10, NOON))[:2] == (0, None)


@pytest.mark.parametrize(("month", "following"), [("2026-03", (2026, 4)), ("2025-12", (2026, 1))])
async def test_a_launch_ages_from_the_end_of_its_month(
    database: SqlStore, month: str, following: tuple[int, int]
) -> None:
    rows = [{"account_id": "acme", "event_id": f"evt_{number}", "month": month} for number in range(3)]
    async with database.database.transaction() as connection:
        await connection.execute(insert(counted_launches), rows)
    pruning, end = SqlPruning(database.database), datetime(*following, 1, tzinfo=UTC)
    oldest = await pruning.oldest_time(Prunable.COUNTED_LAUNCHES, LATER)
    assert oldest == end - timedelta(microseconds=1)
    assert await pruning.oldest_time(Prunable.COUNTED_LAUNCHES, oldest) is None
    pruned = await pruning.prune(Prunable.COUNTED_LAUNCHES, LATER, 2)
    assert (pruned.rows, pruned.reached) == (2, oldest)
    assert (await pruning.prune(Prunable.COUNTED_LAUNCHES, LATER, 2, pruned.reached)).rows == 1


async def test_every_old_row_is_found_by_an_index(database: SqlStore) -> None:
    """Whatever the planner believes: its statistics are of before the rows came."""
    async with database.database.transaction() as connection:
        await connection.execute(text("ANALYZE"))
    await deliver(database, 3000)
    pruning, before = SqlPruning(database.database), NOON + 3000 * MINUTE
    with plans(database) as found:
        assert (await pruning.prune(Prunable.DELIVERIES, before, 500)).rows == 500
        await pruning.oldest_time(Prunable.DELIVERIES, before)
    first, *_, oldest = found
    assert len(found) == 6
    for plan in (first, oldest):
        assert "ix_deliveries_done" in plan
        assert not re.search(r"Sort|TEMP B-TREE", plan), plan
    for plan in found:
        assert not re.search(r"Seq Scan|SCAN \w+'|SCAN \w+$", plan, re.MULTILINE), plan


@contextmanager
def plans(store: SqlStore) -> Iterator[list[str]]:
    """The query plans of all statements, each within its transaction."""
    found: list[str] = []
    explained = "EXPLAIN QUERY PLAN" if store.database.is_sqlite else "EXPLAIN"

    def explain(connection: Connection, _: object, statement: str, parameters: Any, *__: object) -> None:
        if statement.startswith(("SELECT", "DELETE")) and "set_config" not in statement:
            rows = connection.exec_driver_sql(f"{explained} {statement}", parameters)
            found.append("\n".join(str(row) for row in rows))

    engines = {engine.sync_engine for engine in (store.database._engine, store.database._read_engine)}
    for engine in engines:
        event.listen(engine, "after_cursor_execute", explain)
    yield found
    for engine in engines:
        event.remove(engine, "after_cursor_execute", explain)


async def test_two_free_connections_are_enough_for_all_kinds(url: URL, database: SqlStore) -> None:
    if database.database.is_sqlite:
        pytest.skip("SQLite has no server")
    small, telemetry = Database(url, pool_size=5, pool_seconds=0.001), FakeTelemetry()
    try:
        async with small.read_transaction(), small.read_transaction(), small.read_transaction():
            keep = dict.fromkeys(Prunable, MINUTE)
            pruning, work = SqlPruning(small), postponed_work(telemetry)
            running = asyncio.create_task(prune_regularly(pruning, keep, database.clock, telemetry, work))
            behind = telemetry.replaced
            await until(lambda: len(behind.get("retention_behind_seconds", ())) == len(Prunable), 30)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    finally:
        await small.close()
    assert telemetry.logged == []


# -- deleted webhooks ------------------------------------------------------------------------------------------


async def delete_webhook(database: SqlStore, webhook_id: str = "wh_crm") -> None:
    """Delete a webhook that was paused by failures, and publish its tombstone."""
    for number in range(5):
        await database.recorder.record(merge_records([failed(number, webhook_id=webhook_id)]))
    await database.webhooks.change(webhook_id, lambda _: None, HeldChoice.DISCARD)
    await publish_all(database)


async def forget_deliveries(database: SqlStore) -> None:
    async with database.database.transaction() as connection:
        await connection.execute(delete(deliveries))


async def test_a_deleted_webhook_is_removed_with_what_belongs_to_it(database: SqlStore) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_lrs"), NOON))
    await delete_webhook(database)
    await forget_deliveries(database)
    pruning = SqlPruning(database.database)
    assert [await database.count(table) for table in (webhook_health, pauses)] == [1, 1]
    assert await pruning.oldest_time(Prunable.WEBHOOKS, NOON) is None
    assert (await pruning.prune(Prunable.WEBHOOKS, NOON, 10)).rows == 0
    assert await pruning.oldest_time(Prunable.WEBHOOKS, LATER) == NOON
    assert (await pruning.prune(Prunable.WEBHOOKS, LATER, 10)).rows == 1
    assert [await database.count(table) for table in (webhooks, webhook_health, pauses)] == [1, 0, 0]
    assert [one.id for one in await database.webhooks.list()] == ["wh_lrs"]


async def test_a_webhook_with_deliveries_stays(database: SqlStore) -> None:
    await delete_webhook(database)
    pruning = SqlPruning(database.database)
    assert await pruning.oldest_time(Prunable.WEBHOOKS, LATER) is None
    assert (await pruning.prune(Prunable.WEBHOOKS, LATER, 10)).rows == 0
    await forget_deliveries(database)
    assert (await pruning.prune(Prunable.WEBHOOKS, LATER, 10)).rows == 1


async def test_a_webhook_stays_until_its_tombstone_is_published(database: SqlStore) -> None:
    await database.webhooks.change("wh_crm", lambda _: None)
    pruning = SqlPruning(database.database)
    assert (await pruning.prune(Prunable.WEBHOOKS, LATER, 10)).rows == 0
    assert [due.webhook for due in await database.outbox.list_due(10)] == [None]
    await publish_all(database)
    assert (await pruning.prune(Prunable.WEBHOOKS, LATER, 10)).rows == 1


async def test_a_removed_webhook_leaves_the_topic_as_it_is(database: SqlStore) -> None:
    await delete_webhook(database)
    [(version,)] = await versions(database)
    await forget_deliveries(database)
    await SqlPruning(database.database).prune(Prunable.WEBHOOKS, LATER, 10)
    # The topic has no record of it, or its tombstone.
    for tombstones in ({}, {"wh_crm": version}):
        assert await database.outbox.reconcile({}, tombstones) == []
        await database.outbox.mark_dirty(tombstones)
        assert await database.outbox.list_due(10) == []


async def test_a_record_of_a_removed_webhook_is_for_a_person(database: SqlStore) -> None:
    """As after a restore of the topic from before its deletion."""
    await delete_webhook(database)
    await forget_deliveries(database)
    await SqlPruning(database.database).prune(Prunable.WEBHOOKS, LATER, 10)
    assert await database.outbox.reconcile({"wh_crm": 1}, {}) == ["wh_crm"]
    assert await database.outbox.list_due(10) == []


async def test_the_id_of_a_removed_webhook_gets_a_newer_version(database: SqlStore) -> None:
    await delete_webhook(database)
    [(version,)] = await versions(database)
    await forget_deliveries(database)
    await SqlPruning(database.database).prune(Prunable.WEBHOOKS, LATER, 10)
    database.clock.advance(86_400)
    again = await database.webhooks.add(Registration(webhook(), LATER))
    assert again.webhook.version > version


async def versions(database: SqlStore) -> list[tuple[int]]:
    async with database.database.read_transaction() as connection:
        return [(row.version,) for row in await connection.execute(select(webhooks.c.version))]


async def test_a_late_record_of_a_removed_webhook_is_stored(database: SqlStore) -> None:
    await delete_webhook(database)
    await forget_deliveries(database)
    await SqlPruning(database.database).prune(Prunable.WEBHOOKS, LATER, 10)
    await database.recorder.record(merge_records([failed(9)]))
    assert await left(database) == ["evt_9"]
    assert await database.count(webhook_health) == 0
