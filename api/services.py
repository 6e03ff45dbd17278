"""The services that the API calls."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from fastapi import Request

from streams.core.deliveries.request import USER_AGENT
from streams.features.accounts.access import AccessService
from streams.features.accounts.service import AccountService
from streams.features.accounts.terminals import TerminalService
from streams.features.course_sessions.service import CourseSessionService
from streams.features.deliveries.search import DeliverySearchService
from streams.features.deliveries.service import DeliveryService
from streams.features.events.ingest import IngestService
from streams.features.events.recipients import RecipientService
from streams.features.events.search import EventSearchService
from streams.features.learners.service import LearnerService
from streams.features.mails.service import MailService
from streams.features.platform.service import PlatformService
from streams.features.pulls.service import PullService
from streams.features.replays.service import ReplayService
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.idempotency import SqlIdempotencyStore
from streams.features.sign_in.oidc import OidcService
from streams.features.sign_in.service import SignInService
from streams.features.sign_in.sessions import SessionService
from streams.features.usage.service import UsageService
from streams.features.webhooks.latest_events import LatestEventService
from streams.features.webhooks.secrets import SecretService
from streams.features.webhooks.service import WebhookService
from streams.features.webhooks.stats import WebhookStatsService
from streams.features.webhooks.synthetic_events import SyntheticEventService
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock, Telemetry


@dataclass(frozen=True, slots=True)
class Services:
    """The services and ports that routes use; `readiness_problems` says why requests cannot be served at the moment.

    Reads within `shared_read_transaction` see one snapshot, and cost less. `oidc` is None if no provider is set.
    Requests to endpoints come from `source_addresses`, with this `user_agent`.
    """

    access: AccessService
    terminals: TerminalService
    sign_in: SignInService
    sessions: SessionService
    accounts: AccountService
    webhooks: WebhookService
    secrets: SecretService
    deliveries: DeliveryService
    pulls: PullService
    search: DeliverySearchService
    replays: ReplayService
    learners: LearnerService
    webhook_stats: WebhookStatsService
    mails: MailService
    synthetic_events: SyntheticEventService
    latest_events: LatestEventService
    ingest: IngestService
    event_search: EventSearchService
    recipients: RecipientService
    course_sessions: CourseSessionService
    audit: SqlAuditLog
    platform: PlatformService
    usage: UsageService
    responses: SqlIdempotencyStore
    encryption: Encryption
    clock: Clock
    telemetry: Telemetry
    readiness_problems: Callable[[], Awaitable[list[str]]]
    shared_read_transaction: Callable[[], AbstractAsyncContextManager[None]]
    oidc: OidcService | None = None
    source_addresses: Sequence[str] = ()
    user_agent: str = USER_AGENT


def services_of(request: Request) -> Services:
    """The services of the application."""
    services: Services = request.app.state.services
    return services
