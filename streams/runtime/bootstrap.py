"""The composition root: a deployment's products go in; stages and services for people come out."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from scorm_webhooks_cli.local_key import is_local_key
from streams.adapters.sql.deliveries.delivery_log import SqlDeliveryStore
from streams.adapters.sql.deliveries.replays import SqlReplays
from streams.core.accounts.oidc import OidcRules
from streams.core.deliveries.time_limits import seconds_until_outcome
from streams.core.webhooks.address import format_network
from streams.features.accounts.access import AccessService
from streams.features.accounts.service import AccountService
from streams.features.accounts.terminals import TerminalService
from streams.features.course_sessions.player_states import total_state_bytes
from streams.features.course_sessions.service import CourseSessionService
from streams.features.deliveries.search import DeliverySearchService
from streams.features.deliveries.search_storage import SqlDeliverySearch
from streams.features.deliveries.service import DeliveryService
from streams.features.events.ingest import IngestService
from streams.features.events.recipients import RecipientService
from streams.features.events.search import EventSearchService
from streams.features.events.storage import SqlAccountWebhooks
from streams.features.invalid_records.service import InvalidRecordService
from streams.features.invalid_records.storage import SqlReplayedRecords
from streams.features.learners.service import LearnerService
from streams.features.mails.service import MailService
from streams.features.platform.service import PlatformService
from streams.features.platform.storage import SqlPlatformStats
from streams.features.pulls.service import PullService
from streams.features.pulls.storage import SqlPulls
from streams.features.replays.missing_events import MissingEventCounter
from streams.features.replays.service import ReplayService
from streams.features.shared.accounts import SqlAccounts, SqlApiKeys, SqlUsers
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.idempotency import SqlIdempotencyStore
from streams.features.shared.newest_events import NewestEventReader
from streams.features.sign_in.oidc import OidcService
from streams.features.sign_in.service import SignInService
from streams.features.sign_in.sessions import SessionService
from streams.features.sign_in.storage import SqlPendingSignIns, SqlSessions, SqlSignIns
from streams.features.usage.service import UsageService
from streams.features.usage.storage import SqlUsage
from streams.features.webhooks.latest_events import LatestEventService, SqlLatestEvents
from streams.features.webhooks.secrets import SecretService
from streams.features.webhooks.service import WebhookService
from streams.features.webhooks.stats import WebhookStatsService
from streams.features.webhooks.stats_storage import SqlWebhookStats
from streams.features.webhooks.synthetic_events import SyntheticEventService
from streams.ports.kafka import RecordProducer
from streams.ports.runtime import Telemetry
from streams.runtime.sql_parts import SqlParts
from streams.topics import retentions

if TYPE_CHECKING:
    from api.services import Services


class SqlDeployment(SqlParts):
    """Makes the services of the API and of the command line."""

    def services(
        self,
        telemetry: Telemetry,
        producer: RecordProducer,
        readiness_problems: Callable[[], Awaitable[list[str]]],
    ) -> "Services":
        """Everything that the API's routes use."""
        from api.services import Services

        # They share one `AccessService`, because it caches keys that the other revokes.
        access, recipients = self.access(), self.recipients()
        return Services(
            access=access,
            terminals=TerminalService(access, SqlApiKeys(self.database), self.clock),
            sign_in=self.sign_in(),
            sessions=self.sessions(),
            accounts=self.accounts(),
            webhooks=self.webhooks(),
            secrets=self.secrets(),
            deliveries=self.deliveries(),
            pulls=self.pulls(telemetry),
            search=DeliverySearchService(SqlDeliveryStore(self.database), SqlDeliverySearch(self.database)),
            replays=self.replays(),
            learners=self.learners(),
            webhook_stats=self.webhook_stats(),
            mails=self.mail_service(),
            synthetic_events=self.synthetic_events(producer),
            latest_events=LatestEventService(SqlLatestEvents(self.database), self.newest_events(), self.clock),
            ingest=self.ingest(producer, recipients),
            recipients=recipients,
            event_search=self.event_search(),
            course_sessions=self.course_sessions(telemetry),
            audit=self.audit(),
            platform=self.platform(),
            usage=self.usage(),
            responses=SqlIdempotencyStore(self.database),
            encryption=self.encryption,
            clock=self.clock,
            telemetry=telemetry,
            readiness_problems=readiness_problems,
            shared_read_transaction=self.database.shared_read_transaction,
            oidc=self.oidc_service(telemetry),
            source_addresses=[format_network(network) for network in self.settings.source_addresses],
            user_agent=self.settings.user_agent,
        )

    def accounts(self) -> AccountService:
        return AccountService(SqlAccounts(self.database), self.usage_meter().check_limit, self.clock, self.new_token)

    def usage(self) -> UsageService:
        state_bytes = partial(total_state_bytes, self.database)
        accounts, usage = SqlAccounts(self.database), SqlUsage(self.database)
        return UsageService(accounts, usage, self.clock, state_bytes, self.max_state_bytes)

    def access(self) -> AccessService:
        database = self.database
        return AccessService(
            SqlAccounts(database),
            SqlApiKeys(database),
            SqlUsers(database),
            self.clock,
            self.new_token,
            [key.get_secret_value() for key in self.settings.operator_keys],
            self.monotonic,
            partial(is_local_key, self.local_key_path),
        )

    def sign_in(self) -> SignInService:
        database = self.database
        return SignInService(
            SqlAccounts(database),
            SqlUsers(database),
            SqlSignIns(database),
            SqlSessions(database),
            self.encryption,
            self.clock,
            self.new_token,
            self.new_code,
            self.settings.url,
        )

    def sessions(self) -> SessionService:
        database = self.database
        return SessionService(SqlAccounts(database), SqlUsers(database), SqlSessions(database), self.clock)

    def oidc_service(self, telemetry: Telemetry) -> OidcService | None:
        """Sign-in by OpenID Connect; None if no provider is set."""
        settings, provider = self.settings, self.identity_provider()
        if provider is None:
            return None
        return OidcService(
            settings.oidc_name,
            OidcRules(settings.oidc_account_claim, settings.oidc_role_claim, settings.oidc_operator_group),
            provider,
            SqlPendingSignIns(self.database),
            SqlAccounts(self.database),
            self.sign_in(),
            self.encryption,
            self.clock,
            telemetry,
            self.new_token,
        )

    def webhooks(self) -> WebhookService:
        return WebhookService(
            self.stored_webhooks(),
            SqlAccounts(self.database),
            self.publication_status(),
            self.encryption,
            self.dns_check(),
            self.clock,
            self.random_bytes,
            self.settings.retry_schedule,
            self.settings.allow_http,
            self.settings.webhooks_per_account,
        )

    def secrets(self) -> SecretService:
        return SecretService(
            self.webhooks(),
            self.stored_webhooks(),
            self.encryption,
            self.encryption_check,
            self.audit(),
            self.clock,
            self.random_bytes,
        )

    def audit(self) -> SqlAuditLog:
        return SqlAuditLog(self.database)

    def synthetic_events(self, producer: RecordProducer) -> SyntheticEventService:
        deliveries = SqlDeliveryStore(self.database)
        return SyntheticEventService(
            self.stored_webhooks(),
            deliveries,
            producer,
            self.codec,
            self.clock,
            seconds_until_outcome(self.settings.attempt_timeout_seconds),
        )

    def invalid_records(self, producer: RecordProducer) -> InvalidRecordService:
        names = [topic.name for topic in self.topics]
        replayed, lease = SqlReplayedRecords(self.database), self.lease("invalid-replay")
        return InvalidRecordService(producer, self.audit(), self.clock, names, replayed, lease)

    def deliveries(self) -> DeliveryService:
        replays = SqlReplays(self.database, self.clock)
        return DeliveryService(SqlDeliveryStore(self.database), replays, self.jobs(), self.clock)

    def pulls(self, telemetry: Telemetry) -> PullService:
        return PullService(
            SqlPulls(self.database, self.encryption, self.clock),
            self.stored_webhooks(),
            self.recorder(telemetry),
            self.encryption,
            self.clock,
            telemetry,
            self.settings.signature_header,
            self.settings.send_traceparent,
            self.settings.user_agent,
        )

    def replays(self) -> ReplayService:
        deliveries = SqlDeliveryStore(self.database)
        return ReplayService(
            deliveries,
            self.jobs(),
            self.webhook_stats().median_response_ms,
            MissingEventCounter(self.event_history, deliveries, self.erasures(), self.event_codec),
            self.clock,
            self.settings.release_rate,
        )

    def learners(self) -> LearnerService:
        topics = retentions(self.topics, self.settings.topic_prefix)
        return LearnerService(SqlAccounts(self.database), self.erasures(), self.erasure_status(), topics, self.clock)

    def webhook_stats(self) -> WebhookStatsService:
        return WebhookStatsService(SqlWebhookStats(self.database), self.clock)

    def mail_service(self) -> MailService:
        return MailService(self.stored_mails(), self.settings.public_url)

    def platform(self) -> PlatformService:
        unknown_accounts = self.unknown_accounts().list_newest
        return PlatformService(
            SqlPlatformStats(self.database),
            self.group_lags(),
            self.clock,
            unknown_accounts,
            self.failed_work().list_newest,
        )

    def ingest(self, producer: RecordProducer, recipients: RecipientService) -> IngestService:
        return IngestService(producer, self.event_codec, recipients, self.clock)

    def course_sessions(self, telemetry: Telemetry) -> CourseSessionService:
        return CourseSessionService(
            self.stored_course_sessions(telemetry),
            SqlAccounts(self.database),
            self.clock,
            self.new_token,
            self.settings.public_url,
        )

    def event_search(self) -> EventSearchService:
        deliveries, webhooks = SqlDeliveryStore(self.database), SqlAccountWebhooks(self.database)
        return EventSearchService(deliveries, webhooks, self.event_history, self.event_codec, self.clock)

    def newest_events(self) -> NewestEventReader:
        return NewestEventReader(self.event_history, self.erasures(), self.event_codec, self.clock)

    def recipients(self) -> RecipientService:
        return RecipientService(SqlAccountWebhooks(self.database), self.monotonic)
