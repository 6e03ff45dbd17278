"""What only two transactions at once can show of the outbox."""

from dataclasses import replace

from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from builders import NOON
from contract.stores import SqlStore
from streams.adapters.sql.versions import make_dirty


async def test_a_comparison_that_began_before_a_change_does_not_make_the_older_version_due(database: SqlStore) -> None:
    [older] = await database.outbox.due(10)
    await database.webhooks.change("wh_crm", lambda r: replace(r, description="newer"))
    insert = sqlite_insert if database.database.is_sqlite else postgres_insert
    async with database.database.transaction() as connection:
        await make_dirty(connection, insert, "wh_crm", older.version)
    await database.outbox.published([(older, NOON)])
    assert not await database.propagation.is_published("wh_crm")
