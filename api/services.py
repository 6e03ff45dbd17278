"""The services that the API calls."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from streams.ports import AuditLog, Clock, Encryption, IdempotencyStore, Telemetry
from streams.services.access import AccessService
from streams.services.accounts import AccountService
from streams.services.course_sessions import CourseSessionService
from streams.services.deliveries import DeliveryService
from streams.services.delivery_search import DeliverySearchService
from streams.services.event_search import EventSearchService
from streams.services.ingest import IngestService
from streams.services.learners import LearnerService
from streams.services.oidc import OidcService
from streams.services.platform import PlatformService
from streams.services.recipients import RecipientService
from streams.services.replays import ReplayService
from streams.services.secrets import SecretService
from streams.services.sessions import SessionService
from streams.services.sign_in import SignInService
from streams.services.synthetic_events import SyntheticEventService
from streams.services.usage import UsageService
from streams.services.webhook_stats import WebhookStatsService
from streams.services.webhooks import WebhookService


@dataclass(frozen=True, slots=True)
class Services:
    """The services and ports that routes use; `readiness_problems` says why requests cannot be served now.

    `oidc` is None where no provider is set.
    """

    access: AccessService
    sign_in: SignInService
    sessions: SessionService
    accounts: AccountService
    webhooks: WebhookService
    secrets: SecretService
    deliveries: DeliveryService
    search: DeliverySearchService
    replays: ReplayService
    learners: LearnerService
    webhook_stats: WebhookStatsService
    synthetic_events: SyntheticEventService
    ingest: IngestService
    event_search: EventSearchService
    recipients: RecipientService
    course_sessions: CourseSessionService
    audit: AuditLog
    platform: PlatformService
    usage: UsageService
    responses: IdempotencyStore
    encryption: Encryption
    clock: Clock
    telemetry: Telemetry
    readiness_problems: Callable[[], Awaitable[list[str]]]
    metrics: Callable[[], tuple[bytes, str]]
    oidc: OidcService | None = None


def services_of(request: Request) -> Services:
    """The services of the application."""
    services: Services = request.app.state.services
    return services
