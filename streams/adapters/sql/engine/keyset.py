"""Page through growing lists by keyset: rows that existed at the first page come exactly once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Select, literal, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.core.limits import MAX_LIST_BYTES
from streams.core.page import Cursor, Page

Row = TypeVar("Row")

# For audit entries with the longest URLs and ids, these are 2 MB.
ROWS_PER_QUERY = 100


async def prefer_index_order(connection: AsyncConnection) -> None:
    """Make the planner use the index for ORDER BY … LIMIT in this transaction.

    PostgreSQL underestimates the matches of columns that depend on each other (a webhook has one account). It would
    collect and sort them all for every portion.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_sort = off"))


async def prefer_lookups(connection: AsyncConnection) -> None:
    """Make the planner look up each row that another table leads to, in its order, in this transaction."""
    if connection.dialect.name == "postgresql":
        settings = (f"set_config('enable_{name}', 'off', true)" for name in ("hashjoin", "mergejoin", "seqscan"))
        await connection.execute(text(f"SELECT {', '.join(settings)}"))


def select_newest(
    query: Select[Any], at: Column[Any], name: Column[Any], cursor: Cursor | None, limit: int
) -> Select[Any]:
    """Order the query, and start after the cursor. One extra row shows whether there is another page."""
    query = query.order_by(at.desc(), name.desc()).limit(limit + 1)
    if cursor is None:
        return query
    return query.where(tuple_(at, name) < tuple_(literal(cursor.at, at.type), literal(cursor.id, name.type)))


async def read_page(
    connection: AsyncConnection,
    query: Select[Any],
    at: Column[Any],
    name: Column[Any],
    cursor: Cursor | None,
    limit: int,
    to_value: Callable[[Any], Row],
    json_bytes: Callable[[Row], int],
) -> Page[Row]:
    """Read a page of at most `limit` rows and `MAX_LIST_BYTES`, newest first.

    It is read in portions, so that at most a page and a portion are in memory, whatever the size of the rows.
    """
    values: list[Row] = []
    size, last_cursor = 0, cursor
    while True:
        portion = min(limit - len(values), ROWS_PER_QUERY)
        rows = (await connection.execute(select_newest(query, at, name, last_cursor, portion))).all()
        for row in rows[:portion]:
            value = to_value(row)
            size += json_bytes(value)
            if values and size > MAX_LIST_BYTES:
                return Page(values, last_cursor)
            values.append(value)
            last_cursor = Cursor(getattr(row, at.name), getattr(row, name.name))
        if len(rows) <= portion or len(values) == limit:
            return Page(values, last_cursor if len(rows) > portion else None)


def to_page(fetched_rows: Sequence[Row], limit: int, cursor: Callable[[Row], Cursor]) -> Page[Row]:
    """The first `limit` rows of the result of `select_newest`."""
    rows = fetched_rows[:limit]
    return Page(rows, cursor(rows[-1]) if len(fetched_rows) > limit else None)
