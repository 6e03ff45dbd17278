"""A webhook's health and statistics, as responses show them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from math import inf
from operator import attrgetter
from typing import Annotated

from pydantic import Field

from api.shared_models import Model, Rounded, Time
from streams.core.webhooks.webhook import PauseReason, Status
from streams.core.webhooks.webhook_stats import ResponseTimes, WebhookStats, percentile_ms, slowest_by_hour
from streams.features.webhooks.stats import HealthDetails


class Health(Model):
    """A webhook's failure streak; its `pauseAfter` says when it is paused."""

    status: Status
    pause_reason: PauseReason | None = None
    paused_at: Time | None = None
    consecutive_failures: int
    failing_since: Time | None = None
    last_failed_at: Time | None = None
    last_status: int | None = None
    last_failure: Annotated[str | None, Field(description="What happened, for a person.")] = None
    last_delivered_at: Time | None = None


class HourlyOutcome(Model):
    """Attempts within an hour with the same outcome."""

    hour: Time
    outcome: str
    attempts: int
    mean_milliseconds: Rounded
    slowest_milliseconds: Rounded


class ResponseTime(Model):
    """Response times within an hour, estimated from a histogram."""

    hour: Time
    attempts: int
    p50_milliseconds: Rounded
    p95_milliseconds: Rounded


class Unfinished(Model):
    """The number of deliveries with the same state, tier and reason."""

    state: str
    tier: str | None = None
    reason: str | None = None
    count: int


class Statistics(Model):
    """Attempts and response times by the hour, oldest first, without tests; and deliveries that are not finished."""

    since: Time
    hours: list[HourlyOutcome]
    response_times: list[ResponseTime]
    unfinished: list[Unfinished]


def to_health(details: HealthDetails) -> Health:
    """A webhook's health."""
    webhook, failure_streak = details.registration.webhook, details.failure_streak
    return Health.of(
        webhook,
        details.registration,
        failure_streak,
        details,
        pause_reason=webhook.pause.reason if webhook.pause else None,
        consecutive_failures=failure_streak.failures,
        failing_since=failure_streak.first_failed_at,
        last_failure=failure_streak.last_message,
    )


def statistics_of(stats: WebhookStats) -> Statistics:
    """A webhook's statistics."""
    hours = [
        HourlyOutcome.of(
            hour, mean_milliseconds=hour.milliseconds / hour.attempts, slowest_milliseconds=hour.slowest_ms
        )
        for hour in stats.hours
    ]
    slowest_ms = slowest_by_hour(stats.hours)
    times = [
        _response_time(hour, list(times), slowest_ms.get(hour, inf))
        for hour, times in groupby(stats.response_times, _hour)
    ]
    return Statistics.of(stats, hours=hours, response_times=times)


_hour = attrgetter("hour")


def _response_time(hour: datetime, times: Sequence[ResponseTimes], slowest_ms: float) -> ResponseTime:
    return ResponseTime(
        hour=hour,
        attempts=sum(time.attempts for time in times),
        p50_milliseconds=percentile_ms(times, 0.5, slowest_ms) or 0.0,
        p95_milliseconds=percentile_ms(times, 0.95, slowest_ms) or 0.0,
    )
