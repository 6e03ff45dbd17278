"""Pages of a list that grows while it is read."""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Generic, TypeVar

from streams.core.errors import FieldError, Invalid
from streams.core.times import parse_time

Row = TypeVar("Row")

MAX_PAGE_ROWS = 500


@dataclass(frozen=True, slots=True)
class Cursor:
    """The row before the next page, in a list ordered by time and id. Its text is opaque."""

    at: datetime
    id: str

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(f"{self.at.isoformat()} {self.id}".encode()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Some rows, and the cursor of the next page; None on the last page."""

    rows: Sequence[Row]
    next_cursor: Cursor | None = None


def json_bytes(value: object) -> int:
    """The size of a value in a response."""
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def page_size(sizes: Iterable[int], limit: int, max_bytes: int) -> int:
    """The number of rows on a page: at most `limit`, and within `max_bytes`, but at least one."""
    fitting_count = sum(total <= max_bytes for total in accumulate(sizes))
    return min(limit, max(fitting_count, 1))


def parse_cursor(text: str) -> Cursor:
    """Parse a cursor. Raises `Invalid`."""
    try:
        at, _, name = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True).decode().partition(" ")
        moment = parse_time(at)
        if moment is None or not name or "\0" in name:
            raise ValueError(text)
        return Cursor(moment, name)
    except (ValueError, binascii.Error):
        raise Invalid(FieldError("cursor", "must be the nextCursor of an earlier response")) from None
