"""Read the attempts of a delivery, at most as many as one response may show."""

from typing import Any

from sqlalchemy import Text, cast, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.deliveries import attempts
from streams.core.accounts.account import AttemptDetails
from streams.core.limits import MAX_ATTEMPT_BYTES_SHOWN
from streams.core.page import Cursor, Page, page_size

_KEYSET = (attempts.c.generation, attempts.c.number)
_NEWEST_FIRST = tuple(column.desc() for column in _KEYSET)


async def newest_attempts(
    connection: AsyncConnection, delivery_id: str, cursor: Cursor | None, limit: int
) -> Page[AttemptDetails]:
    """The newest `limit` attempts before `cursor`, at least one, within `MAX_ATTEMPT_BYTES_SHOWN`."""
    walk = select(attempts.c.id).where(attempts.c.delivery_id == delivery_id)
    if cursor is not None:
        last = attempts.alias("last")
        is_last = (last.c.id == cursor.id) & (last.c.delivery_id == delivery_id)
        walk = walk.join(last, is_last & (tuple_(*_KEYSET) < tuple_(last.c.generation, last.c.number)))
    # One extra row shows whether there is another page. Only the sizes of these rows are read.
    candidates = walk.order_by(*_NEWEST_FIRST).limit(limit + 1).subquery()
    query = select(attempts.c.id, _stored_size_column()).where(attempts.c.id.in_(select(candidates.c.id)))
    newest = (await connection.execute(query.order_by(*_NEWEST_FIRST))).all()
    ids = [row.id for row in newest[: page_size((row.size for row in newest), limit, MAX_ATTEMPT_BYTES_SHOWN)]]
    columns = select(attempts).where(attempts.c.id.in_(ids)).order_by(*_NEWEST_FIRST)
    rows = (await connection.execute(columns)).all()
    next_cursor = Cursor(rows[-1].started_at, rows[-1].id) if len(newest) > len(rows) > 0 else None
    return Page([_attempt(row) for row in rows], next_cursor)


def _stored_size_column() -> Any:
    texts = (attempts.c.url, attempts.c.request_headers, attempts.c.response_headers, attempts.c.message)
    lengths = [func.length(cast(text, Text)) for text in texts]
    lengths.append(func.coalesce(func.length(cast(attempts.c.fields, Text)), 0))
    return sum(lengths, func.length(attempts.c.response_body)).label("size")


def _attempt(row: Any) -> AttemptDetails:
    return to_value(AttemptDetails, row, milliseconds=(row.ended_at - row.started_at).total_seconds() * 1000)
