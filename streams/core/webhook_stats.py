"""Statistics of a webhook: attempts and response times by the hour, and its failure streak."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from streams.core.attempt import Attempt
from streams.core.delivery import Trigger


@dataclass(frozen=True, slots=True)
class Hour:
    """The attempts of one webhook that began within an hour and had the same outcome; times in milliseconds."""

    webhook_id: str
    hour: datetime
    outcome: str
    attempts: int
    milliseconds: float
    slowest_ms: float
    last_at: datetime


# Upper bounds of the histogram's buckets, in milliseconds. The last one holds all that took longer.
BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 60_000)


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """How many attempts of one webhook within an hour got a response in up to `up_to_ms`, and in more than the last."""

    webhook_id: str
    hour: datetime
    up_to_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """A webhook's run of failures as it stands; all empty while its last counted attempt succeeded."""

    failures: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_status: int | None = None
    last_message: str | None = None


def by_hour(attempts: Iterable[Attempt]) -> list[Hour]:
    """What these attempts add up to, in the order of their keys; a test counts for nothing (R5)."""
    alike: defaultdict[tuple[str, datetime, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.trigger is not Trigger.TEST:
            hour = attempt.started_at.replace(minute=0, second=0, microsecond=0)
            alike[attempt.webhook_id, hour, str(attempt.outcome)].append(attempt)
    return [_hour(key, made) for key, made in sorted(alike.items())]


def response_times_of(attempts: Iterable[Attempt]) -> list[ResponseTimes]:
    """The histogram of these attempts, in the order of its keys; tests and attempts without a response do not count."""
    counts: Counter[tuple[str, datetime, int]] = Counter()
    for attempt in attempts:
        if attempt.status is not None and attempt.trigger is not Trigger.TEST:
            hour = attempt.started_at.replace(minute=0, second=0, microsecond=0)
            bucket = min(bisect_left(BUCKETS_MS, attempt.milliseconds), len(BUCKETS_MS) - 1)
            counts[attempt.webhook_id, hour, BUCKETS_MS[bucket]] += 1
    return [ResponseTimes(*key, count) for key, count in sorted(counts.items())]


def percentile_ms(times: Iterable[ResponseTimes], share: float) -> float | None:
    """The response time that this share of attempts did not exceed, in milliseconds; None without attempts.

    Within a bucket, response times are taken as spread evenly.
    """
    counts: Counter[int] = Counter()
    for one in times:
        counts[one.up_to_ms] += one.attempts
    wanted, below, lower = share * counts.total(), 0, 0
    for upper in sorted(counts):
        lower = max((bound for bound in BUCKETS_MS if bound < upper), default=0)
        if below + counts[upper] >= wanted:
            return lower + (upper - lower) * (wanted - below) / counts[upper]
        below += counts[upper]
    return None


def _hour(key: tuple[str, datetime, str], made: Sequence[Attempt]) -> Hour:
    took_ms = [attempt.milliseconds for attempt in made]
    return Hour(*key, len(made), sum(took_ms), max(took_ms), max(attempt.ended_at for attempt in made))
