"""Remembers for a moment what was found, so that many requests need one look-up."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")

TTL_SECONDS = 1.0
MAX_ENTRIES = 10_000


class TtlCache(Generic[Value]):
    """What was found, by name, for `seconds`. What was not found is looked up again: it may have been made since.

    Times are seconds of one clock.
    """

    def __init__(self, seconds: float = TTL_SECONDS, limit: int = MAX_ENTRIES) -> None:
        self._seconds = seconds
        self._limit = limit
        self._entries: OrderedDict[str, tuple[Value, float]] = OrderedDict()

    def get(self, name: str, now: float) -> Value | None:
        value, stored_at = self._entries.get(name, (None, 0.0))
        return value if value is not None and 0 <= now - stored_at < self._seconds else None

    def put(self, name: str, value: Value, now: float) -> None:
        self._entries.pop(name, None)
        self._entries[name] = value, now
        if len(self._entries) > self._limit:
            self._entries.popitem(last=False)

    def discard(self, name: str) -> None:
        self._entries.pop(name, None)
