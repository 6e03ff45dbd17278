"""A rate limit: a bucket of tokens that fills at a steady pace."""

from dataclasses import dataclass
from math import ceil

PERIOD_SECONDS = 60


@dataclass(slots=True)
class Bucket:
    """`limit` requests a minute, all of them at once if need be; times are seconds of one monotonic clock."""

    limit: int
    tokens: float
    filled_at: float

    @classmethod
    def full(cls, limit: int, now: float) -> "Bucket":
        return cls(limit, float(limit), now)

    def take(self, now: float) -> bool:
        """Whether one more request may pass."""
        self.tokens = min(self.limit, self.tokens + (now - self.filled_at) * self.limit / PERIOD_SECONDS)
        self.filled_at = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    @property
    def remaining(self) -> int:
        return int(self.tokens)

    @property
    def full_in_seconds(self) -> int:
        return ceil((self.limit - self.tokens) * PERIOD_SECONDS / self.limit)

    @property
    def next_in_seconds(self) -> int:
        """How long until one request may pass."""
        return max(0, ceil((1 - self.tokens) * PERIOD_SECONDS / self.limit))
