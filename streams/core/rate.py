"""Rate limits: a bucket of tokens that fills at a steady pace, and a pace that forgets what was not used."""

from dataclasses import dataclass
from math import ceil, floor

PERIOD_SECONDS = 60
# What a pace left unused may be caught up for so long, so that whoever looks seldom does not fall behind it.
CATCH_UP_SECONDS = 0.5


@dataclass(slots=True)
class TokenBucket:
    """`limit` requests a minute, all of them at once if need be; times are seconds of one monotonic clock."""

    limit: int
    tokens: float
    filled_at: float

    @classmethod
    def full(cls, limit: int, now: float) -> "TokenBucket":
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


@dataclass(slots=True)
class Pace:
    """`per_second`, in bites; times are seconds of one clock."""

    per_second: int
    used_until: float = 0.0

    def room(self, now: float) -> int:
        """How many may go now."""
        # At a very slow pace long enough for one to come together; and a clock may be set back.
        forgotten = now - max(CATCH_UP_SECONDS, 2 / self.per_second)
        self.used_until = min(now, max(self.used_until, forgotten))
        return floor((now - self.used_until) * self.per_second)

    def take(self, count: int) -> None:
        """So many of the room went."""
        self.used_until += count / self.per_second
