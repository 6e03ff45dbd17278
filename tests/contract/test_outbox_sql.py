"""The outbox under concurrent transactions."""

from dataclasses import replace

from builders import NOON
from contract.stores import SqlStore
from streams.adapters.sql.webhooks.dirty_webhooks import mark_webhook_dirty


async def test_a_comparison_does_not_undo_a_concurrent_change(database: SqlStore) -> None:
    [older] = await database.outbox.list_due(10)
    await database.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    async with database.database.transaction() as connection:
        await mark_webhook_dirty(connection, "wh_crm", older.version)
    await database.outbox.mark_published([(older, NOON)])
    assert not await database.propagation.is_published("wh_crm")


async def test_a_webhook_missing_on_the_topic_gets_a_newer_version(database: SqlStore) -> None:
    """Compaction may have removed the tombstone, which a running stage remembers."""
    [due] = await database.outbox.list_due(10)
    await database.outbox.mark_published([(due, NOON)])
    database.clock.advance(60)
    await database.outbox.reconcile({}, {})
    [again] = await database.outbox.list_due(10)
    assert again.version >= int(database.clock.now().timestamp() * 1000) > due.version


async def test_on_a_new_topic_versions_stay_as_they_are(database: SqlStore) -> None:
    [due] = await database.outbox.list_due(10)
    await database.outbox.mark_published([(due, NOON)])
    database.clock.advance(60)
    await database.outbox.reconcile({}, None)
    assert [one.version for one in await database.outbox.list_due(10)] == [due.version]


async def test_a_version_of_a_clock_days_ahead_is_taken_back(database: SqlStore) -> None:
    database.clock.advance(3 * 86_400)
    await database.webhooks.change("wh_crm", lambda known: replace(known, description="by a wrong clock"))
    database.clock.advance(-3 * 86_400)
    await database.outbox.reconcile({}, {})
    [due] = await database.outbox.list_due(10)
    assert due.version <= int(database.clock.now().timestamp() * 1000) + 1
    await database.outbox.mark_published([(due, NOON)])
    assert await database.propagation.is_published("wh_crm")


async def test_to_have_published_nothing_changes_nothing(database: SqlStore) -> None:
    await database.outbox.mark_published([])
    assert len(await database.outbox.list_due(10)) == 1
