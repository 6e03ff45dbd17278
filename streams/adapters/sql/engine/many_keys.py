"""Conditions for thousands of keys in one parameter. One parameter per key would cost more time than the query."""

from collections.abc import Sequence

import orjson
from sqlalchemy import ARRAY, Column, ColumnElement, Text, any_, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.dialects import is_sqlite


def is_one_of(connection: AsyncConnection, column: Column[str], values: Sequence[str]) -> ColumnElement[bool]:
    """Whether a column has one of these values."""
    if is_sqlite(connection):
        return column.in_(select(func.json_each(orjson.dumps(values).decode()).table_valued("value").c.value))
    return column == any_(literal(values, ARRAY(Text)))


def in_pairs(
    connection: AsyncConnection, columns: tuple[Column[str], Column[str]], pairs: Sequence[tuple[str, str]]
) -> ColumnElement[bool]:
    """Whether two columns have one of these pairs of values."""
    if is_sqlite(connection):
        # SQLite uses no index for a list of rows.
        values = func.json_each(orjson.dumps(pairs).decode()).table_valued("value").c.value
        return tuple_(*columns).in_(select(func.json_extract(values, "$[0]"), func.json_extract(values, "$[1]")))
    arrays = (func.unnest(literal(list(parts), ARRAY(Text))) for parts in zip(*pairs, strict=True))
    return tuple_(*columns).in_(select(*arrays))
