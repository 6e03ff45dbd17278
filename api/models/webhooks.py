"""Webhooks as requests and answers show them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Annotated, Any

from pydantic import Field

from api.models.common import UNCHANGED, Changes, Id, Input, Model, Text, Time, at_most
from streams.core.delivery_state import StateCount
from streams.core.held import HeldChoice
from streams.core.limits import (
    CONCURRENCY,
    DESCRIPTION_CHARACTERS,
    EVENT_TYPE_CHARACTERS,
    EVENT_TYPES_LISTED,
    HEADER_NAME_CHARACTERS,
    HEADER_VALUE_CHARACTERS,
    HEADERS,
    SCOPE_IDS,
    URL_CHARACTERS,
)
from streams.core.webhook import DEFAULT_MAX_CONCURRENCY, PauseReason, Registration, Status
from streams.core.webhook_stats import ResponseTimes, percentile_ms
from streams.services.secrets import DEFAULT_OVERLAP_HOURS, MOST_OVERLAP_HOURS
from streams.services.webhook_input import ALL_EVENTS, WebhookInput
from streams.services.webhook_stats import HealthDetails, StatsSummary
from streams.services.webhooks import Changed

Url = Annotated[
    Text,
    Field(
        max_length=URL_CHARACTERS,
        examples=["https://example.com/webhooks"],
        description="https, without credentials.",
        json_schema_extra={"pattern": "^https?://[!-~]+$"},
    ),
]
Events = Annotated[
    list[Annotated[Text, Field(max_length=EVENT_TYPE_CHARACTERS)]],
    Field(max_length=EVENT_TYPES_LISTED, examples=[["session.completed"]], description="Types, or `*` for all."),
    at_most(EVENT_TYPES_LISTED, "types"),
]
Packages = Annotated[
    list[Id],
    Field(max_length=SCOPE_IDS, examples=[["pkg_def456"]], description="Only events of these packages."),
    at_most(SCOPE_IDS, "ids"),
]
Dispatches = Annotated[
    list[Id],
    Field(max_length=SCOPE_IDS, examples=[["dsp_ghi789"]], description="Only events of these dispatches."),
    at_most(SCOPE_IDS, "ids"),
]
Headers = Annotated[
    dict[
        Annotated[Text, Field(max_length=HEADER_NAME_CHARACTERS)],
        Annotated[Text, Field(max_length=HEADER_VALUE_CHARACTERS)],
    ],
    Field(
        max_length=HEADERS,
        examples=[{"X-Gateway-Key": "k-123"}],
        description="Headers of your own, sent with every request.",
    ),
    at_most(HEADERS, "headers"),
]
Concurrency = Annotated[int, Field(ge=1, le=CONCURRENCY, description="Requests at once, at most.")]
Description = Annotated[Text, Field(max_length=DESCRIPTION_CHARACTERS, examples=["The CRM of the sales team"])]


class NewWebhook(Input):
    """What to register."""

    url: Url
    events: Events = Field(default_factory=lambda: [ALL_EVENTS])
    description: Description = ""
    packages: Packages = Field(default_factory=list)
    dispatches: Dispatches = Field(default_factory=list)
    fallback_url: Url | None = None
    headers: Headers = Field(default_factory=dict)
    max_concurrency: Concurrency = DEFAULT_MAX_CONCURRENCY

    def webhook_input(self, account_id: str) -> WebhookInput:
        """The same for an account."""
        return WebhookInput(account_id, **dict(self))


class WebhookChanges(Changes):
    """What to change; what is left out stays as it is. `fallbackUrl: null` removes it."""

    url: Url = UNCHANGED
    events: Events = UNCHANGED
    description: Description = UNCHANGED
    packages: Packages = UNCHANGED
    dispatches: Dispatches = UNCHANGED
    fallback_url: Url | None = UNCHANGED
    headers: Headers = UNCHANGED
    max_concurrency: Concurrency = UNCHANGED
    status: Annotated[Status, Field(strict=False)] = UNCHANGED


class Enabling(Input):
    """What becomes of what is held: sent on oldest first, kept as dead letters, or discarded."""

    held: Annotated[HeldChoice, Field(strict=False)] = HeldChoice.DELIVER


class Rotation(Input):
    """For how many hours the old secret counts beside the new one; 0 ends it at once."""

    overlap_hours: Annotated[int, Field(ge=0, le=MOST_OVERLAP_HOURS)] = DEFAULT_OVERLAP_HOURS


class Webhook(Model):
    """A webhook; `propagated` is there after a change and says whether all stages know of it already."""

    id: str
    url: str
    events: list[str]
    description: str
    packages: list[str]
    dispatches: list[str]
    fallback_url: str | None = None
    has_headers: Annotated[bool, Field(description="Whether it sends headers of your own, which are not shown.")]
    max_concurrency: int
    status: Status
    pause_reason: PauseReason | None = None
    paused_at: Time | None = None
    old_secret_until: Annotated[
        Time | None, Field(description="During a rotation: until when the old secret counts.")
    ] = None
    created_at: Time
    version: int
    propagated: bool | None = None


class WebhookWithSecret(Webhook):
    """The same with its signing secret."""

    secret: Annotated[str, Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])]


class Secret(Model):
    """The newest signing secret."""

    secret: str


class Health(Model):
    """A webhook's run of failures; five in a row pause it."""

    status: Status
    pause_reason: PauseReason | None = None
    paused_at: Time | None = None
    consecutive_failures: int
    failing_since: Time | None = None
    last_failed_at: Time | None = None
    last_status: int | None = None
    last_failure: Annotated[str | None, Field(description="What happened, in words.")] = None
    last_delivered_at: Time | None = None


class Hour(Model):
    """The attempts of an hour that had one outcome."""

    hour: Time
    outcome: str
    attempts: int
    mean_milliseconds: float
    slowest_milliseconds: float


class ResponseTime(Model):
    """How long attempts within an hour took until their response, estimated from a histogram."""

    hour: Time
    attempts: int
    p50_milliseconds: float
    p95_milliseconds: float


class Unfinished(Model):
    """Deliveries that stand alike."""

    state: str
    tier: str | None = None
    reason: str | None = None
    count: int


class Statistics(Model):
    """Attempts by the hour, oldest first, tests apart; and what is not finished now."""

    since: Time
    hours: list[Hour]
    response_times: list[ResponseTime]
    unfinished: list[Unfinished]


def webhook_fields(known: Registration, now: datetime) -> dict[str, Any]:
    """A webhook's fields."""
    webhook = known.webhook
    ending = [s.valid_until for s in webhook.valid_secrets(now) if s.valid_until is not None]
    return {
        "id": webhook.id,
        "url": webhook.url,
        "events": sorted(webhook.event_types) or [ALL_EVENTS],
        "description": known.description,
        "packages": sorted(webhook.packages),
        "dispatches": sorted(webhook.dispatches),
        "fallback_url": webhook.fallback_url,
        "has_headers": webhook.encrypted_headers is not None,
        "max_concurrency": webhook.max_concurrency,
        "status": webhook.status,
        "pause_reason": webhook.pause.reason if webhook.pause else None,
        "paused_at": known.paused_at,
        "old_secret_until": min(ending, default=None),
        "created_at": known.created_at,
        "version": webhook.version,
    }


def changed_webhook(changed: Changed, now: datetime) -> Webhook:
    """A webhook after a change."""
    return Webhook(**webhook_fields(changed.registration, now), propagated=changed.propagated)


def health_of(seen: HealthDetails) -> Health:
    """How a webhook is."""
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


def statistics_of(stats: StatsSummary) -> Statistics:
    """A webhook's numbers."""
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
