"""Conditions for thousands of keys, as one parameter. As many parameters would cost more time than the query."""

from collections.abc import Sequence

import orjson
from sqlalchemy import ARRAY, Column, ColumnElement, Text, any_, func, literal, select, tuple_


def is_one_of(column: Column[str], values: Sequence[str], *, is_sqlite: bool) -> ColumnElement[bool]:
    """Whether a column has one of these values."""
    if is_sqlite:
        return column.in_(select(func.json_each(orjson.dumps(values).decode()).table_valued("value").c.value))
    return column == any_(literal(values, ARRAY(Text)))


def is_one_of_pairs(
    columns: tuple[Column[str], Column[str]], pairs: Sequence[tuple[str, str]], *, is_sqlite: bool
) -> ColumnElement[bool]:
    """Whether two columns have one of these pairs of values."""
    if is_sqlite:
        # SQLite uses no index for a list of rows.
        values = func.json_each(orjson.dumps(pairs).decode()).table_valued("value").c.value
        return tuple_(*columns).in_(select(func.json_extract(values, "$[0]"), func.json_extract(values, "$[1]")))
    arrays = (func.unnest(literal(list(parts), ARRAY(Text))) for parts in zip(*pairs, strict=True))
    return tuple_(*columns).in_(select(*arrays))
