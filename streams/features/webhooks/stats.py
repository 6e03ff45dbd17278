"""Health and statistics of a webhook, and the mails to its account."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from streams.core.delivery_state import StateCount
from streams.core.errors import FieldError, Invalid
from streams.core.mail import Mail, RenderedMail
from streams.core.outcome import OutcomeKind
from streams.core.page import Cursor, Page
from streams.core.webhook import ListedWebhook, Registration
from streams.core.webhook_stats import FailedAttempt, FailureStreak, Hour, ResponseTimes
from streams.features.mails.storage import SqlMails
from streams.features.mails.text import compose
from streams.features.webhooks.service import WebhookService
from streams.features.webhooks.stats_storage import SqlWebhookStats
from streams.features.webhooks.verdict import Verdict, verdict
from streams.ports import Clock

MOST_HOURS = 24 * 31


@dataclass(frozen=True, slots=True)
class HealthDetails:
    """A webhook with its failure streak, and when it last got an event."""

    registration: Registration
    failing: FailureStreak
    last_delivered_at: datetime | None


@dataclass(frozen=True, slots=True)
class StatsSummary:
    """Attempts and response times by the hour since `since`, oldest first, and what is not finished now."""

    since: datetime
    hours: Sequence[Hour]
    response_times: Sequence[ResponseTimes]
    unfinished: Sequence[StateCount]


@dataclass(frozen=True, slots=True)
class MailDetails:
    """A mail with its text."""

    mail: Mail
    letter: RenderedMail


class WebhookStatsService:
    """Health and statistics; `account_id` limits them to one account."""

    def __init__(
        self, webhooks: WebhookService, stats: SqlWebhookStats, mails: SqlMails, clock: Clock, public_url: str | None
    ) -> None:
        self._webhooks = webhooks
        self._stats = stats
        self._mails = mails
        self._clock = clock
        self.public_url = public_url

    async def health(self, webhook_id: str, account_id: str | None = None) -> HealthDetails:
        """Raises `NotFound`."""
        registration = await self._webhooks.find(webhook_id, account_id)
        failing = await self._stats.failing(webhook_id)
        return HealthDetails(registration, failing, await self._stats.last_at(webhook_id, OutcomeKind.DELIVERED))

    async def stats(self, webhook_id: str, hours: int = 24, account_id: str | None = None) -> StatsSummary:
        """Statistics of the last `hours`, the current one included. Raises `Invalid`, `NotFound`."""
        if not 1 <= hours <= MOST_HOURS:
            raise Invalid(FieldError("hours", f"must be from 1 to {MOST_HOURS}"))
        await self._webhooks.find(webhook_id, account_id)
        this_hour = self._clock.now().replace(minute=0, second=0, microsecond=0)
        since = this_hour - timedelta(hours=hours - 1)
        return StatsSummary(
            since,
            await self._stats.hours(webhook_id, since),
            await self._stats.response_times(webhook_id, since),
            await self._stats.unfinished(webhook_id),
        )

    async def verdicts(self, known: Sequence[ListedWebhook], hours: int = 24) -> Sequence[Verdict]:
        """Whether each of these webhooks works, by its last hours."""
        since = self._clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
        found = await self._stats.summaries([one.id for one in known], since)
        return [verdict(one, found[one.id]) for one in known]

    async def failures(self, webhook_id: str, limit: int, account_id: str | None = None) -> Sequence[FailedAttempt]:
        """Its last failed attempts, newest first. Raises `NotFound`."""
        await self._webhooks.find(webhook_id, account_id)
        return await self._stats.failures(webhook_id, limit)

    async def account_hours(self, account_id: str, hours: int = 24) -> Sequence[Hour]:
        """Attempts of an account by the hour and the outcome, oldest first."""
        since = self._clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
        return await self._stats.account_hours(account_id, since)

    async def mails(self, account_id: str, after: Cursor | None, limit: int) -> Page[MailDetails]:
        """The mails to an account, sent and owed; newest first."""
        page = await self._mails.list(account_id, after, limit)
        return Page([MailDetails(mail, compose(mail, self.public_url)) for mail in page.rows], page.next)
