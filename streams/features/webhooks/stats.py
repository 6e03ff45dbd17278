"""Health and statistics of a webhook."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import FieldError, Invalid
from streams.core.webhooks.webhook import ListedWebhook, Registration, Webhook
from streams.core.webhooks.webhook_stats import (
    FailedAttempt,
    FailureStreak,
    HourlyAttempts,
    WebhookStats,
    percentile_ms,
)
from streams.features.webhooks.stats_storage import SqlWebhookStats
from streams.features.webhooks.verdict import Verdict, verdict
from streams.ports.runtime import Clock

MAX_HOURS = 24 * 31
# The period of the response times that decide an endpoint's pace.
PACE_PERIOD = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class HealthDetails:
    """A webhook with its failure streak, and when it last got an event."""

    registration: Registration
    failure_streak: FailureStreak
    last_delivered_at: datetime | None


@dataclass
class WebhookStatsService:
    """Health and statistics."""

    _stats: SqlWebhookStats
    _clock: Clock

    async def health(self, registration: Registration) -> HealthDetails:
        webhook_id = registration.webhook.id
        failure_streak = await self._stats.failure_streak(webhook_id)
        return HealthDetails(
            registration, failure_streak, await self._stats.last_attempt_at(webhook_id, OutcomeKind.DELIVERED)
        )

    async def stats(self, registration: Registration, hours: int = 24) -> WebhookStats:
        """Statistics of the last `hours`, the current one included. Raises `Invalid`."""
        if not 1 <= hours <= MAX_HOURS:
            raise Invalid(FieldError("hours", f"must be from 1 to {MAX_HOURS}"))
        return await self._stats.stats(registration.webhook.id, self._since(hours))

    async def verdicts(self, webhooks: Sequence[ListedWebhook], hours: int = 24) -> Sequence[Verdict]:
        """Whether each of these webhooks works, judged by its last hours."""
        summaries = await self._stats.summaries([webhook.id for webhook in webhooks], self._since(hours))
        return [verdict(webhook, summaries[webhook.id]) for webhook in webhooks]

    async def failures(self, registration: Registration, limit: int) -> Sequence[FailedAttempt]:
        """The webhook's last failed attempts, newest first."""
        return await self._stats.failures(registration.webhook.id, limit)

    async def median_response_ms(self, webhook: Webhook) -> float | None:
        """The median of the webhook's response times of the last day; None if there are none."""
        return percentile_ms(await self._stats.response_times(webhook.id, self._clock.now() - PACE_PERIOD), 0.5)

    async def account_hours(self, account_id: str, hours: int = 24) -> Sequence[HourlyAttempts]:
        """Attempts of an account by the hour and the outcome, oldest first."""
        return await self._stats.account_hours(account_id, self._since(hours))

    def _since(self, hours: int) -> datetime:
        """The beginning of the first of these hours; the current one is the last."""
        return self._clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
