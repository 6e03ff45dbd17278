"""The retry schedule: tiers, each a fixed wait."""

import re
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

from streams.core.errors import FieldError, Invalid
from streams.core.limits import MAX_RETRY_TIERS, MAX_WAITS_IN_TIER

_WAIT_PATTERN = re.compile(r"([1-9]\d{0,6})(s|m|h|d)", re.ASCII)
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

# No topic keeps its records for this long.
MAX_TIER_WAIT = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Tier:
    """A fixed wait with a topic of its own; `name` is the wait as written, such as `30s`."""

    name: str

    @property
    def wait(self) -> timedelta:
        match = _WAIT_PATTERN.fullmatch(self.name)
        if match is None:
            raise Invalid(FieldError("tier", f"{self.name!r} is not a wait such as 30s, 2m, 6h or 1d"))
        wait = timedelta(seconds=int(match[1]) * _UNIT_SECONDS[match[2]])
        if wait > MAX_TIER_WAIT:
            raise Invalid(FieldError("tier", f"{self.name!r} is longer than {MAX_TIER_WAIT.days} days"))
        return wait


@dataclass(frozen=True, slots=True)
class Schedule:
    """The waits in order, none shorter than the one before; n waits make n + 1 attempts.

    A deployment's schedule has each wait once: each is a tier. A webhook's schedule is made of these tiers.
    """

    tiers: tuple[Tier, ...]

    @property
    def attempts(self) -> int:
        return len(self.tiers) + 1

    @property
    def names(self) -> list[str]:
        return [tier.name for tier in self.tiers]

    def can_wait(self, tier: Tier) -> bool:
        """Whether a deployment with this schedule has this wait, as a tier or as a multiple of its longest."""
        wait, longest_wait = tier.wait, self.tiers[-1].wait
        is_multiple = not wait % longest_wait and wait <= MAX_WAITS_IN_TIER * longest_wait
        return is_multiple or any(wait == own_tier.wait for own_tier in self.tiers)

    def waits_for(self, tier: Tier) -> tuple[Tier, int]:
        """The tier in which a record waits for `tier.wait`, and how often; another one if the tiers have changed."""
        wait = tier.wait
        if (own_tier := next((own_tier for own_tier in self.tiers if own_tier.wait >= wait), None)) is not None:
            return own_tier, 1
        longest_tier = self.tiers[-1]
        return longest_tier, min(-(-wait // longest_tier.wait), MAX_WAITS_IN_TIER)

    def tier_after(self, attempt: int, retry_after: timedelta | None = None) -> Tier | None:
        """The tier after attempt number `attempt` (from 1); None when it was the last attempt.

        A wait that the endpoint asked for is rounded up to a tier, never below the scheduled one.
        """
        if attempt > len(self.tiers):
            return None
        remaining_tiers = self.tiers[attempt - 1 :]
        if retry_after is None:
            return remaining_tiers[0]
        return next((tier for tier in remaining_tiers if tier.wait >= retry_after), remaining_tiers[-1])


def parse_schedule(text: str) -> Schedule:
    """Parse a schedule such as `30s,2m,10m,1h,6h`. Raises `Invalid`, which says what would be right."""
    parts = text.split(",")
    if len(parts) > MAX_RETRY_TIERS:
        raise Invalid(FieldError("schedule", f"must have at most {MAX_RETRY_TIERS} waits"))
    tiers = tuple(Tier(part.strip()) for part in parts)
    waits = [tier.wait for tier in tiers]
    if any(longer <= shorter for shorter, longer in pairwise(waits)):
        raise Invalid(FieldError("schedule", "each wait must be longer than the one before, as in 30s,2m,10m,1h,6h"))
    return Schedule(tiers)
