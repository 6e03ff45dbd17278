"""Remembers for a moment what was found, so that many requests need one look-up."""

from collections import OrderedDict
from typing import Generic, TypeVar

Found = TypeVar("Found")

FOUND_SECONDS = 1.0
MAX_FOUND = 10_000


class RecentlyFound(Generic[Found]):
    """What was found, by name, for a second. What was not found is looked up again: it may have been made since.

    Times are seconds of one clock.
    """

    def __init__(self, seconds: float = FOUND_SECONDS, limit: int = MAX_FOUND) -> None:
        self._seconds = seconds
        self._limit = limit
        self._found: OrderedDict[str, tuple[Found, float]] = OrderedDict()

    def get(self, name: str, now: float) -> Found | None:
        value, at = self._found.get(name, (None, 0.0))
        return value if value is not None and 0 <= now - at < self._seconds else None

    def put(self, name: str, value: Found, now: float) -> None:
        self._found.pop(name, None)
        self._found[name] = value, now
        if len(self._found) > self._limit:
            self._found.popitem(last=False)

    def forget(self, name: str) -> None:
        self._found.pop(name, None)
