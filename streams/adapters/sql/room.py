"""Limits of the number of rows that an account has."""

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.account_tables import accounts
from streams.core.errors import Conflict


async def require_room(
    connection: AsyncConnection, account_id: str, table: Table, counts: ColumnElement[bool], limit: int, message: str
) -> None:
    """Raise `Conflict` when the account has `limit` of these rows. `message` has `{count}` and `{limit}`."""
    # The second of two concurrent callers waits here, and counts the row of the first. Foreign keys do not wait.
    this = select(accounts.c.id).where(accounts.c.id == account_id)
    await connection.execute(this.with_for_update(key_share=True))
    mine = select(func.count()).select_from(table).where(table.c.account_id == account_id, counts)
    if (count := (await connection.execute(mine)).scalar_one()) >= limit:
        raise Conflict(message.format(count=count, limit=limit))
