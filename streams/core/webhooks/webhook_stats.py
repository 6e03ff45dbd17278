"""Statistics of a webhook: attempts and response times by the hour, and its failure streak."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import inf

from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.delivery import State, Trigger
from streams.core.deliveries.delivery_state import StateCount
from streams.core.deliveries.outcome import RESPONSE_KINDS, OutcomeKind


@dataclass(frozen=True, slots=True)
class HourlyAttempts:
    """Attempts of one webhook within an hour with the same outcome; times are in milliseconds."""

    webhook_id: str
    hour: datetime
    outcome: str
    attempts: int
    milliseconds: float
    slowest_ms: float
    last_at: datetime


# Upper bounds of the histogram's buckets in milliseconds. The last bucket has everything above.
BUCKETS_MS = (5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 7500, 10_000, 15_000, 20_000, 30_000, 45_000, 60_000)


@dataclass(frozen=True, slots=True)
class ResponseTimes:
    """Attempts of one webhook within an hour whose response time is in the bucket up to `up_to_ms`."""

    webhook_id: str
    hour: datetime
    up_to_ms: int
    attempts: int


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """A webhook's current failure streak; empty after a success."""

    failures: int = 0
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    last_status: int | None = None
    last_message: str | None = None


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """A failed attempt of a webhook."""

    delivery_id: str
    started_at: datetime
    milliseconds: float
    status: int | None
    message: str


@dataclass(frozen=True, slots=True)
class WebhookSummary:
    """The figures of a webhook since a time: attempts by outcome, response times, and deliveries unfinished now.

    `unfinished` has the states waiting, held and dead. Without `since` the figures cover the whole time. `slowest_ms`
    is the time of the slowest attempt with a response.
    """

    attempts: Mapping[str, int] = field(default_factory=dict)
    response_times: Sequence[ResponseTimes] = ()
    unfinished: Mapping[State, int] = field(default_factory=dict)
    failure_streak: FailureStreak = FailureStreak()
    last_delivered_at: datetime | None = None
    since: datetime | None = None
    slowest_ms: float = inf


@dataclass(frozen=True, slots=True)
class WebhookStats:
    """Attempts and response times by the hour since `since`, oldest first; the failure streak; unfinished counts."""

    since: datetime
    hours: Sequence[HourlyAttempts]
    response_times: Sequence[ResponseTimes]
    unfinished: Sequence[StateCount]
    failure_streak: FailureStreak

    @property
    def summary(self) -> WebhookSummary:
        attempts: Counter[str] = Counter()
        for hour in self.hours:
            attempts[hour.outcome] += hour.attempts
        unfinished_counts: Counter[State] = Counter()
        for item in self.unfinished:
            unfinished_counts[item.state] += item.count
        delivered_at = max((hour.last_at for hour in self.hours if hour.outcome == OutcomeKind.DELIVERED), default=None)
        return WebhookSummary(
            attempts,
            self.response_times,
            unfinished_counts,
            self.failure_streak,
            delivered_at,
            self.since,
            slowest_response_ms(self.hours),
        )


def by_hour(attempts: Iterable[Attempt]) -> list[HourlyAttempts]:
    """Sum up attempts by webhook, hour and outcome, in this order; tests do not count."""
    groups: defaultdict[tuple[str, datetime, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if attempt.trigger is not Trigger.TEST:
            hour = attempt.started_at.replace(minute=0, second=0, microsecond=0)
            groups[attempt.webhook_id, hour, str(attempt.outcome)].append(attempt)
    return [_sum_up_hour(key, hour_attempts) for key, hour_attempts in sorted(groups.items())]


def response_times_of(attempts: Iterable[Attempt]) -> list[ResponseTimes]:
    """The histogram of these attempts, by webhook and hour. Tests, and attempts without a response, do not count."""
    counts: Counter[tuple[str, datetime, int]] = Counter()
    for attempt in attempts:
        if attempt.status is not None and attempt.trigger is not Trigger.TEST:
            hour = attempt.started_at.replace(minute=0, second=0, microsecond=0)
            bucket = min(bisect_left(BUCKETS_MS, attempt.milliseconds), len(BUCKETS_MS) - 1)
            counts[attempt.webhook_id, hour, BUCKETS_MS[bucket]] += 1
    return [ResponseTimes(*key, count) for key, count in sorted(counts.items())]


def slowest_response_ms(hours: Iterable[HourlyAttempts]) -> float:
    """The slowest attempt that got a response; infinite if none did."""
    return max((hour.slowest_ms for hour in hours if hour.outcome in RESPONSE_KINDS), default=inf)


def slowest_by_hour(hours: Iterable[HourlyAttempts]) -> Mapping[datetime, float]:
    """The slowest attempt of each hour that got a response."""
    by_start: defaultdict[datetime, list[HourlyAttempts]] = defaultdict(list)
    for hour in hours:
        by_start[hour.hour].append(hour)
    return {start: slowest_response_ms(hourly_attempts) for start, hourly_attempts in by_start.items()}


def percentile_ms(times: Iterable[ResponseTimes], share: float, slowest_ms: float = inf) -> float | None:
    """The percentile of response times in milliseconds; `share` is from 0 to 1. None without attempts.

    Response times are assumed to be spread evenly within a bucket, up to the slowest one: the edge of a bucket is not a
    measurement.
    """
    counts: Counter[int] = Counter()
    for milliseconds in times:
        counts[milliseconds.up_to_ms] += milliseconds.attempts
    target, below, lower = share * counts.total(), 0, 0
    for upper in sorted(counts):
        lower = max((bound for bound in BUCKETS_MS if bound < upper), default=0)
        if below + counts[upper] >= target:
            highest = max(lower, min(upper, slowest_ms))
            return min(lower + (highest - lower) * (target - below) / counts[upper], slowest_ms)
        below += counts[upper]
    return None


def _sum_up_hour(key: tuple[str, datetime, str], hour_attempts: Sequence[Attempt]) -> HourlyAttempts:
    # The time that a reader kept a delivery is not a response time.
    durations_ms = [attempt.milliseconds if attempt.url else 0.0 for attempt in hour_attempts]
    return HourlyAttempts(
        *key,
        len(hour_attempts),
        sum(durations_ms),
        max(durations_ms),
        max(attempt.ended_at for attempt in hour_attempts),
    )
