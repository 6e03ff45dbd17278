"""The last accounts that events named but that do not exist."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import delete, select

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database, SqlStorage
from streams.adapters.sql.engine.many_keys import is_one_of
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.usage import unknown_accounts
from streams.core.accounts.usage import UnknownAccount

MAX_UNKNOWN_ACCOUNTS = 100
_NEWEST_FIRST = (unknown_accounts.c.last_at.desc(), unknown_accounts.c.account_id)


class SqlUnknownAccounts(SqlStorage):
    """`UnknownAccounts` in SQL."""

    def __init__(self, database: Database, *, max_rows: int = MAX_UNKNOWN_ACCOUNTS) -> None:
        super().__init__(database)
        self._max_rows = max_rows

    async def find_existing(self, account_ids: Sequence[str]) -> Collection[str]:
        async with self._database.read_transaction() as connection:
            query = select(accounts.c.id).where(is_one_of(connection, accounts.c.id, account_ids))
            return set(await connection.scalars(query))

    async def add(self, accounts: Sequence[UnknownAccount]) -> None:
        key = unknown_accounts.c.account_id
        newest_ids = select(key).order_by(*_NEWEST_FIRST).limit(self._max_rows)
        # An account that another process writes to at the moment is skipped: waiting for it could deadlock.
        older_ids = select(key).where(key.not_in(newest_ids)).with_for_update(skip_locked=True)
        async with self._database.transaction() as connection:
            # Always in the same order, so that two processes do not wait for each other.
            await _ACCOUNTS.execute(connection, [account._asdict() for account in sorted(accounts)])
            await connection.execute(delete(unknown_accounts).where(key.in_(older_ids)))

    async def list_newest(self, limit: int) -> list[UnknownAccount]:
        """The accounts with the newest events. An account that was created since is no longer unknown."""
        is_existing = select(accounts.c.id).where(accounts.c.id == unknown_accounts.c.account_id).exists()
        query = select(unknown_accounts).where(~is_existing).order_by(*_NEWEST_FIRST).limit(limit)
        return [UnknownAccount(**row._mapping) for row in await self._database.rows(query)]


def _add_on_conflict(statement: Any) -> Any:
    new = statement.excluded
    return statement.on_conflict_do_update(
        index_elements=[unknown_accounts.c.account_id],
        set_={"events": unknown_accounts.c.events + new.events, "last_at": new.last_at},
    )


_ACCOUNTS = BulkInsert(unknown_accounts, _add_on_conflict)
