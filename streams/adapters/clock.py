"""The system clock."""

from datetime import UTC, datetime


class SystemClock:
    """A `Clock`: the time now, aware and in UTC."""

    def now(self) -> datetime:
        return datetime.now(UTC)
