"""Rate limits: token buckets for single requests and for batches."""

from collections import OrderedDict
from dataclasses import dataclass
from math import ceil, floor

PERIOD_SECONDS = 60
# The number of holders of a limit that are remembered.
MAX_BUCKETS = 10_000
# Unused pace can be used within this time, so that a caller that asks rarely does not fall behind.
CATCH_UP_SECONDS = 0.5


@dataclass(slots=True)
class TokenBucket:
    """A token bucket: `limit` requests a period, a minute by default, all at once if necessary.

    Times are seconds of a monotonic clock.
    """

    limit: int
    tokens: float
    filled_at: float
    period_seconds: int = PERIOD_SECONDS

    @classmethod
    def full(cls, limit: int, now: float, period_seconds: int = PERIOD_SECONDS) -> "TokenBucket":
        return cls(limit, float(limit), now, period_seconds)

    def take(self, now: float, count: int = 1) -> bool:
        """Take tokens; False if there is none. A larger number than available is a debt, which later tokens pay."""
        self.fill(now)
        if not self.has_token:
            return False
        self.tokens -= count
        return True

    def fill(self, now: float) -> None:
        """Add the tokens of the time since the last call."""
        self.tokens = min(self.limit, self.tokens + (now - self.filled_at) * self.limit / self.period_seconds)
        self.filled_at = now

    @property
    def has_token(self) -> bool:
        return self.tokens >= 1

    @property
    def remaining(self) -> int:
        return int(self.tokens)

    @property
    def seconds_until_full(self) -> int:
        return ceil((self.limit - self.tokens) * self.period_seconds / self.limit)

    @property
    def seconds_until_token(self) -> int:
        """Seconds until there is a token."""
        return max(0, ceil((1 - self.tokens) * self.period_seconds / self.limit))


class RateLimits:
    """A token bucket for each holder, in this process. The least recently used are forgotten and start full again."""

    def __init__(self, limit: int, period_seconds: int = PERIOD_SECONDS) -> None:
        self._limit = limit
        self._period_seconds = period_seconds
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def take(self, holder: str, now: float, count: int = 1) -> tuple[bool, TokenBucket]:
        """Take tokens from a holder's bucket. Returns whether there was one, and the bucket."""
        bucket = self.bucket(holder, now)
        return bucket.take(now, count), bucket

    def bucket(self, holder: str, now: float) -> TokenBucket:
        """A holder's bucket, with the tokens that it has now."""
        bucket = self._buckets.pop(holder, None) or TokenBucket.full(self._limit, now, self._period_seconds)
        self._buckets[holder] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        bucket.fill(now)
        return bucket


@dataclass(frozen=True, slots=True)
class Rate:
    """An even rate, of which `burst` may come at once: in any second at most `per_second` + `burst`.

    The state is one number, `used_until`: the time until which the rate is used up (the virtual scheduling algorithm
    of ITU-T I.371, known as GCRA).
    """

    per_second: float
    burst: int

    def free_at(self, used_until: float) -> float:
        """When the next one is allowed."""
        return used_until - (self.burst - 1) / self.per_second

    def use(self, used_until: float, now: float) -> float:
        """`used_until` after one more at `now`."""
        return max(used_until, now) + 1 / self.per_second

    def allowance(self, used_until: float, now: float, limit: int) -> int:
        """How many are allowed at `now`, at most `limit`."""
        count = 0
        while count < limit and self.free_at(used_until) <= now:
            used_until = self.use(used_until, now)
            count += 1
        return count

    def used_at_start(self, since: float) -> float:
        """`used_until` if the use before `since` is unknown: one is allowed, but no burst yet."""
        return since + (self.burst - 1) / self.per_second


def seconds_to_send(count: int, per_second: float, concurrency: int, response_ms: float) -> float:
    """About how long an endpoint needs for `count` requests, with this many in flight, at no more than `per_second`."""
    return count / min(per_second, concurrency * 1000 / max(response_ms, 1.0))


@dataclass(slots=True)
class BatchTokenBucket:
    """Tokens at `per_second`, taken by the batch. Times are seconds of one clock."""

    per_second: float
    used_until: float = 0.0

    def allowance(self, now: float) -> int:
        """How many are allowed now."""
        # At a very slow pace, long enough for one; and a clock may be set back.
        earliest = now - max(CATCH_UP_SECONDS, 2 / self.per_second)
        self.used_until = min(now, max(self.used_until, earliest))
        return floor((now - self.used_until) * self.per_second)

    def take(self, count: int) -> None:
        """Count this many as used."""
        self.used_until += count / self.per_second
