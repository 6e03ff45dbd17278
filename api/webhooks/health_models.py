"""A webhook's health and statistics, as responses show them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Annotated

from pydantic import Field

from api.shared_models import Model, Time
from streams.core.delivery_state import StateCount
from streams.core.webhook import PauseReason, Status
from streams.core.webhook_stats import ResponseTimes, WebhookStats, percentile_ms
from streams.features.webhooks.stats import HealthDetails


class Health(Model):
    """A webhook's failure streak; five failures in a row pause it."""

    status: Status
    pause_reason: PauseReason | None = None
    paused_at: Time | None = None
    consecutive_failures: int
    failing_since: Time | None = None
    last_failed_at: Time | None = None
    last_status: int | None = None
    last_failure: Annotated[str | None, Field(description="What happened, for a person.")] = None
    last_delivered_at: Time | None = None


class Hour(Model):
    """Attempts within an hour with the same outcome."""

    hour: Time
    outcome: str
    attempts: int
    mean_milliseconds: float
    slowest_milliseconds: float


class ResponseTime(Model):
    """Response times within an hour, estimated from a histogram."""

    hour: Time
    attempts: int
    p50_milliseconds: float
    p95_milliseconds: float


class Unfinished(Model):
    """The number of deliveries with the same state, tier and reason."""

    state: str
    tier: str | None = None
    reason: str | None = None
    count: int


class Statistics(Model):
    """Attempts and response times by the hour, oldest first, without tests; and deliveries that are not finished."""

    since: Time
    hours: list[Hour]
    response_times: list[ResponseTime]
    unfinished: list[Unfinished]


def health_of(seen: HealthDetails) -> Health:
    """A webhook's health."""
    webhook, failing = seen.registration.webhook, seen.failing
    return Health(
        status=webhook.status,
        pause_reason=webhook.pause.reason if webhook.pause else None,
        paused_at=seen.registration.paused_at,
        consecutive_failures=failing.failures,
        failing_since=failing.first_failed_at,
        last_failed_at=failing.last_failed_at,
        last_status=failing.last_status,
        last_failure=failing.last_message,
        last_delivered_at=seen.last_delivered_at,
    )


def statistics_of(stats: WebhookStats) -> Statistics:
    """A webhook's statistics."""
    hours = [
        Hour(
            hour=hour.hour,
            outcome=hour.outcome,
            attempts=hour.attempts,
            mean_milliseconds=round(hour.milliseconds / hour.attempts, 1),
            slowest_milliseconds=round(hour.slowest_ms, 1),
        )
        for hour in stats.hours
    ]
    return Statistics(
        since=stats.since,
        hours=hours,
        response_times=[_response_time(hour, list(times)) for hour, times in groupby(stats.response_times, _hour)],
        unfinished=[_unfinished(count) for count in stats.unfinished],
    )


_hour = attrgetter("hour")


def _response_time(hour: datetime, times: Sequence[ResponseTimes]) -> ResponseTime:
    return ResponseTime(
        hour=hour,
        attempts=sum(one.attempts for one in times),
        p50_milliseconds=round(percentile_ms(times, 0.5) or 0.0, 1),
        p95_milliseconds=round(percentile_ms(times, 0.95) or 0.0, 1),
    )


def _unfinished(count: StateCount) -> Unfinished:
    return Unfinished(state=count.state, tier=count.tier, reason=count.reason, count=count.count)
