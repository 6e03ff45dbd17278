"""The number of rows that one transaction of a long task takes, and the rest after it."""

from dataclasses import dataclass
from datetime import timedelta

TARGET_SECONDS = 0.05
MIN_BATCH_ROWS = 500
MAX_BATCH_ROWS = 10_000
# Up to this age of the backlog there is time for a rest after each batch.
MAX_THROTTLED_BACKLOG_AGE = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class BatchSize:
    """A number of rows whose statements take about `TARGET_SECONDS`, between two bounds."""

    rows: int = 1000

    def adapt(self, rows: int, seconds: float) -> "BatchSize":
        """The next size, after `rows` took `seconds`: at most twice this one, at least half of it."""
        if rows < self.rows and seconds <= TARGET_SECONDS:
            # The last rows say nothing about a whole batch.
            return self
        bounded_seconds = min(max(seconds, TARGET_SECONDS / 2), TARGET_SECONDS * 2)
        return BatchSize(min(max(int(self.rows * TARGET_SECONDS / bounded_seconds), MIN_BATCH_ROWS), MAX_BATCH_ROWS))


def throttle_seconds(seconds: float, backlog_age: timedelta, *, is_only_writer: bool) -> float:
    """Seconds of rest after a batch that took `seconds`: just as long, so that others have half of the time.

    There is no rest when the work falls behind, unless it blocks all other writers.
    """
    return seconds if is_only_writer or backlog_age <= MAX_THROTTLED_BACKLOG_AGE else 0.0
