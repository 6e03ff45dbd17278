"""Pages of long lists by keyset: a list that grows meanwhile skips nothing and shows nothing twice."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Select, literal, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.core.page import Cursor, Page

Row = TypeVar("Row")


async def in_order(connection: AsyncConnection) -> None:
    """For this transaction: what is asked for in order, and no more than so many, is found by walking an index.

    PostgreSQL takes what matches several columns that depend on each other (a webhook has one account) for a few
    rows, and would rather collect and sort them all, for every portion anew.
    """
    if connection.dialect.name == "postgresql":
        await connection.execute(text("SET LOCAL enable_sort = off"))


def newest_first(
    query: Select[Any], at: Column[Any], name: Column[Any], after: Cursor | None, limit: int
) -> Select[Any]:
    """The query in order, from behind `after`, with one row more than a page has: it tells whether there is another."""
    query = query.order_by(at.desc(), name.desc()).limit(limit + 1)
    if after is None:
        return query
    return query.where(tuple_(at, name) < tuple_(literal(after.at, at.type), literal(after.id, name.type)))


def page_of(found: Sequence[Row], limit: int, cursor: Callable[[Row], Cursor]) -> Page[Row]:
    """The first `limit` rows of what `newest_first` found."""
    rows = found[:limit]
    return Page(rows, cursor(rows[-1]) if len(found) > limit else None)
