"""A restored database: what must be stopped before, how far the restore came, and what ended after the dump."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from builders import NOON, webhook
from contract.learners import ADA, BEFORE, learners, of_learner, open_sessions, record, traces
from contract.stores import SqlStore
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.restores import SqlRestores
from streams.adapters.sql.tables.accounts import audit_log
from streams.adapters.sql.tables.deliveries import webhooks
from streams.adapters.sql.tables.erasures import erased_learners
from streams.core.errors import Conflict
from streams.core.restore import RestoreProgress, RestoreStep
from streams.core.webhooks.webhook import Registration
from streams.features.webhooks.storage import SqlWebhooks

DUMP = "webhooks.dump (9 bytes)"


@pytest.fixture
async def restores(database: SqlStore) -> SqlRestores:
    """The database, without a connection of its own."""
    await database.database.close()
    return SqlRestores(database.database.url)


# -- stages that must be stopped -------------------------------------------------------------------------------------


async def test_a_held_lease_names_its_stage(database: SqlStore, restores: SqlRestores) -> None:
    now = datetime.now(UTC)
    database.clock.advance((now - database.clock.now()).total_seconds())
    await database.lease("holder").renew()
    await database.database.close()
    with pytest.raises(Conflict, match="held leases: publish"):
        restores.require_unused(now)
    restores.forget_leases()
    restores.require_unused(now)


async def test_an_open_pool_is_a_running_stage(database: SqlStore, restores: SqlRestores) -> None:
    stage = Database(database.database.url)
    await stage.ping()
    with pytest.raises(Conflict, match=r"(1 connections of scorm-webhooks|a process has .* open)"):
        restores.require_unused(datetime.now(UTC))
    await stage.close()
    restores.require_unused(datetime.now(UTC))


# -- progress --------------------------------------------------------------------------------------------------------


def test_progress_is_that_of_one_dump_and_one_time(restores: SqlRestores) -> None:
    assert restores.find_progress(DUMP, NOON) is None
    begun = RestoreProgress(dump=DUMP, since=NOON, started_at=NOON, last_step=RestoreStep.RESTORE)
    for progress in (begun, begun.after(RestoreStep.REWIND, records=7)):
        restores.save_progress(progress)
        assert restores.find_progress(DUMP, NOON) == progress
    assert restores.find_progress(DUMP, NOON + timedelta(seconds=1)) is None
    assert restores.find_progress("another", NOON) is None


# -- webhooks --------------------------------------------------------------------------------------------------------


def stored(database: SqlStore) -> SqlWebhooks:
    return SqlWebhooks(database.database, database.clock)


async def test_a_deletion_that_only_the_topic_knows_is_repeated(database: SqlStore) -> None:
    version = (await database.outbox.list_due(1))[0].version
    await database.webhooks.add(Registration(webhook(id="wh_other"), NOON))
    later = version + 60_000
    assert await stored(database).delete_again({"wh_crm": later, "wh_unknown": later}) == 1
    assert await database.webhooks.find("wh_crm") is None
    assert await database.webhooks.find("wh_other") is not None
    [entry] = await database.database.rows(select(audit_log).where(audit_log.c.action == "webhook.deleted"))
    assert (entry.object_id, entry.details) == ("wh_crm", {"reason": "restored"})
    assert await stored(database).delete_again({"wh_crm": later}) == 0


@pytest.mark.parametrize("newer", [-1, 0, 1])
async def test_a_deletion_that_no_person_made_is_not_repeated(database: SqlStore, newer: int) -> None:
    """The dump before did not have the webhook, and `publish --reconcile` removed it from the topic."""
    version = (await database.outbox.list_due(1))[0].version
    assert await stored(database).delete_again({"wh_crm": version + newer}) == 0


# -- learners --------------------------------------------------------------------------------------------------------


async def erase(store: SqlStore, learner: str) -> None:
    service = learners(store)
    await service.finish(await service.start("acme", learner, actor="key:key_1"))


async def erase_restored(store: SqlStore) -> list[str]:
    """Erase what a dump brought back; the learners."""
    restored = await store.erasures.list_restored()
    for learner in restored:
        await learners(store).finish(await store.erasures.start_again(learner, "restore"))
    return [learner.learner_id for learner in restored]


async def test_data_that_a_dump_brought_back_is_erased_again(database: SqlStore) -> None:
    # A dump of before the erasure, and the erasure learned from the topic.
    await erase(database, ADA)
    async with database.database.transaction() as connection:
        erased = (await connection.execute(select(erased_learners))).one()._mapping
        await connection.execute(erased_learners.delete())
    await record(database, of_learner(1), of_learner(2, "grace"))
    await open_sessions(database)
    async with database.database.transaction() as connection:
        await connection.execute(erased_learners.insert().values(erased))
    assert await erase_restored(database) == [ADA]
    assert [trace for trace in await traces(database) if ADA in trace] == []
    assert await erase_restored(database) == []
    [entry] = await database.database.rows(select(audit_log).where(audit_log.c.actor == "restore").limit(1))
    assert ADA not in str(entry.details)


async def test_what_happened_after_the_erasure_stays(database: SqlStore) -> None:
    await erase(database, ADA)
    async with database.database.transaction() as connection:
        await connection.execute(update(erased_learners).values(erased_at=BEFORE - timedelta(hours=1)))
    await record(database, of_learner(1, at=BEFORE), at=BEFORE)
    assert await erase_restored(database) == []


async def test_a_restore_counts_what_stayed_ended(database: SqlStore) -> None:
    await erase(database, ADA)
    await database.webhooks.change("wh_crm", lambda _: None)
    progress = RestoreProgress(dump="", since=NOON, started_at=NOON, last_step=RestoreStep.ERASE)
    counts = SqlRestores(database.database.url).count_results(progress)
    assert counts == {"deliveries_for_readers": 0, "webhooks_deleted_again": 1, "learners_erased": 1}
    async with database.database.transaction() as connection:
        await connection.execute(update(webhooks).values(deleted_at=NOON - timedelta(days=1)))
    assert SqlRestores(database.database.url).count_results(progress)["webhooks_deleted_again"] == 0
