"""The query parameters of a page of rows, and its cursor."""

from typing import Annotated

from fastapi import Query

from streams.core.limits import MAX_CURSOR_CHARACTERS
from streams.core.page import MAX_PAGE_ROWS, Cursor, parse_cursor

Limit = Annotated[int, Query(ge=1, le=MAX_PAGE_ROWS, description="At most so many rows.")]
CursorQuery = Annotated[
    str | None,
    Query(
        alias="cursor",
        max_length=MAX_CURSOR_CHARACTERS,
        description="The `nextCursor` of the previous page.",
    ),
]


def cursor_of(text: str | None) -> Cursor | None:
    """Parse the cursor of a query parameter. Raises `Invalid`."""
    return parse_cursor(text) if text is not None else None
