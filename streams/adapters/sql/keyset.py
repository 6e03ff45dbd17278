"""Page through growing lists by keyset: what was there before the first page comes once."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Select, literal, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.core.page import Cursor, Page

Row = TypeVar("Row")


async def prefer_index_order(connection: AsyncConnection) -> None:
    """Make the planner use the index for ORDER BY … LIMIT in this transaction.

    PostgreSQL underestimates the matches of columns that depend on each other (a webhook has one account). It would
    collect and sort them all for every portion.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_sort = off"))


async def prefer_look_ups(connection: AsyncConnection) -> None:
    """Make the planner look up each row that another table leads to, in its order, in this transaction."""
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_hashjoin = off"))
        await connection.execute(text("SET LOCAL enable_mergejoin = off"))


def newest_first(
    query: Select[Any], at: Column[Any], name: Column[Any], after: Cursor | None, limit: int
) -> Select[Any]:
    """Order the query, and start after the cursor. One extra row shows whether there is another page."""
    query = query.order_by(at.desc(), name.desc()).limit(limit + 1)
    if after is None:
        return query
    return query.where(tuple_(at, name) < tuple_(literal(after.at, at.type), literal(after.id, name.type)))


def page_of(found: Sequence[Row], limit: int, cursor: Callable[[Row], Cursor]) -> Page[Row]:
    """The first `limit` rows of the result of `newest_first`."""
    rows = found[:limit]
    return Page(rows, cursor(rows[-1]) if len(found) > limit else None)
