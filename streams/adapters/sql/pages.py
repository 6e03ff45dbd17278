"""Pages of long lists by keyset: a list that grows meanwhile skips nothing and shows nothing twice."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, Select, literal, tuple_

from streams.core.page import Cursor, Page

Row = TypeVar("Row")


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
