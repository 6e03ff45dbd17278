"""A deployment's SQL database, mail server and identity provider, as the parts of stages and services."""

import os
import secrets
import socket
import ssl
import time
from datetime import timedelta
from functools import cached_property

from ulid import ULID

from streams.adapters.certificates import trust_ca_file
from streams.adapters.dns_check import SystemDnsCheck, look_up_literal
from streams.adapters.kafka.admin.group_lags import KafkaGroupLags
from streams.adapters.sql.deliveries.backlog import SqlBacklogs
from streams.adapters.sql.deliveries.held import SqlHeldDeliveries
from streams.adapters.sql.deliveries.jobs import SqlJobs
from streams.adapters.sql.deliveries.lost_deliveries import SqlLostDeliveries
from streams.adapters.sql.deliveries.overdue_retries import SqlOverdueRetries
from streams.adapters.sql.deliveries.recorder import SqlRecorder
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.erasures.erasure_outbox import SqlErasureOutbox
from streams.adapters.sql.failed_work import SqlFailedWork
from streams.adapters.sql.outgoing_events import OutgoingEventWriter, SqlOutgoingEvents
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.webhooks.outbox import SqlLease, SqlOutbox
from streams.core.accounts.session import CODE_DIGITS, format_code
from streams.core.accounts.usage import MONTH_OPEN_DAYS
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.learners.storage import SqlErasures
from streams.features.mails.storage import SqlMails
from streams.features.usage.storage import SqlUsageMeter
from streams.features.usage.unknown_accounts import SqlUnknownAccounts
from streams.features.webhooks.storage import SqlWebhooks
from streams.ports.access import IdentityProvider
from streams.ports.delivery import DnsCheck, MailTransport
from streams.ports.kafka import GroupLags
from streams.ports.runtime import Telemetry
from streams.ports.storage import ErasurePublication, Prunable
from streams.ports.webhooks import PublicationStatus
from streams.runtime.deployment import Deployment
from streams.stages.postponed_work import PostponedWork
from streams.topics import STAGE_TOPICS


class SqlParts(Deployment):
    """A deployment with its database: makes the parts of stages and services."""

    @cached_property
    def encryption_check(self) -> SqlEncryptionCheck:
        return SqlEncryptionCheck(self.database, self.encryption)

    # -- randomness and the world outside: tests override these ----------------------------------------------------

    def monotonic(self) -> float:
        return time.monotonic()

    def new_token(self) -> str:
        return secrets.token_urlsafe(32)

    def new_code(self) -> str:
        """A code that a person types to sign in."""
        return format_code(secrets.randbelow(10**CODE_DIGITS))

    def random_bytes(self, size: int) -> bytes:
        return secrets.token_bytes(size)

    def dns_check(self) -> DnsCheck:
        settings = self.settings
        return SystemDnsCheck(settings.allowed_networks, look_up_literal if settings.egress_proxy_resolves else None)

    def group_lags(self) -> GroupLags:
        return KafkaGroupLags(self.topics_admin, STAGE_TOPICS)

    def backlogs(self) -> SqlBacklogs:
        return SqlBacklogs(self.database)

    def publication_status(self) -> PublicationStatus:
        return self.outbox()

    def erasure_status(self) -> ErasurePublication:
        return self.erasure_outbox()

    # -- for stages ------------------------------------------------------------------------------------------------

    def failed_work(self) -> SqlFailedWork:
        return SqlFailedWork(self.database)

    def postponed_work(self, telemetry: Telemetry) -> PostponedWork:
        """The failed work of one process, which it tries again later."""
        return PostponedWork(self.failed_work(), self.clock, telemetry)

    def recorder(self, telemetry: Telemetry) -> SqlRecorder:
        return SqlRecorder(self.database, self.clock, telemetry, self.encryption)

    def held_deliveries(self) -> SqlHeldDeliveries:
        return SqlHeldDeliveries(self.database)

    def lost_deliveries(self) -> SqlLostDeliveries:
        return SqlLostDeliveries(self.database, self.clock)

    def overdue_retries(self) -> SqlOverdueRetries:
        return SqlOverdueRetries(self.database, self.clock)

    def outbox(self) -> SqlOutbox:
        return SqlOutbox(self.database, self.clock)

    def erasure_outbox(self) -> SqlErasureOutbox:
        return SqlErasureOutbox(self.database, self.encryption)

    def lease(self, name: str) -> SqlLease:
        """A lease for work that only one process of the deployment may do."""
        holder = f"{socket.gethostname()}/{os.getpid()}/{ULID()}"
        return SqlLease(self.database, self.clock, f"{self.settings.topic_prefix}{name}", holder)

    def usage_meter(self) -> SqlUsageMeter:
        return SqlUsageMeter(self.database, self.event_codec)

    def unknown_accounts(self) -> SqlUnknownAccounts:
        return SqlUnknownAccounts(self.database)

    def outgoing_events(self) -> SqlOutgoingEvents:
        return SqlOutgoingEvents(self.database)

    @property
    def max_state_bytes(self) -> int:
        """The limit of all players' states of one account."""
        return self.settings.player_states_mib * 1024**2

    def stored_course_sessions(self, telemetry: Telemetry) -> SqlCourseSessions:
        return SqlCourseSessions(
            self.database, self.event_codec, telemetry, self.encryption, self.encryption_check, self.max_state_bytes
        )

    def stored_webhooks(self) -> SqlWebhooks:
        return SqlWebhooks(self.database, self.clock, self.encryption_check)

    def jobs(self) -> SqlJobs:
        return SqlJobs(self.database, self.clock, self.encryption)

    def erasures(self) -> SqlErasures:
        return SqlErasures(self.database, self.encryption, self.clock, self.random_bytes, self.encryption_check)

    def pruning(self) -> SqlPruning:
        return SqlPruning(self.database)

    def retention_by_kind(self) -> dict[Prunable, timedelta]:
        """The retention of each kind of row. Without an entry, rows stay until a person decides."""
        settings = self.settings
        retention_days = {
            Prunable.DELIVERIES: settings.retention_days,
            Prunable.ATTEMPTS_BY_HOUR: max(31, settings.retention_days),
            Prunable.RESPONSE_TIMES: max(31, settings.retention_days),
            Prunable.JOBS: settings.retention_days,
            Prunable.MAILS: settings.audit_retention_days,
            Prunable.AUDIT: settings.audit_retention_days,
            Prunable.RESPONSES: 1,
            Prunable.SIGN_INS: 1,
            Prunable.SESSIONS: 1,
            Prunable.COUNTED_LAUNCHES: MONTH_OPEN_DAYS,
            Prunable.PENDING_SIGN_INS: 1,
            Prunable.COURSE_SESSIONS: settings.session_retention_days,
            Prunable.COMMIT_URLS: settings.session_retention_days,
            Prunable.ERASURES: settings.audit_retention_days,
            Prunable.API_KEYS: settings.audit_retention_days,
        }
        if settings.dead_letter_retention_days is not None:
            retention_days[Prunable.DEAD_LETTERS] = settings.dead_letter_retention_days
        # A deleted webhook is needed no longer than this, except by deliveries that wait for a decision and so keep it.
        retention_days[Prunable.WEBHOOKS] = max(retention_days.values())
        return {prunable: timedelta(days=count) for prunable, count in retention_days.items()}

    def stored_mails(self) -> SqlMails:
        return SqlMails(self.database, OutgoingEventWriter(self.codec))

    def mail_transport(self) -> MailTransport | None:
        """The mail server of SMTP_URL; None if it is not set."""
        url = self.environ.get("SMTP_URL")
        if not url:
            return None
        from streams.adapters.smtp import SmtpTransport, smtp_server

        return SmtpTransport(smtp_server(url), self.settings.mail_from, self._ssl_context())

    def identity_provider(self) -> IdentityProvider | None:
        """The OpenID Connect provider of the settings; None if none is set."""
        settings = self.settings
        if not (settings.oidc_issuer and settings.oidc_client_id and settings.oidc_client_secret):
            return None
        from streams.adapters.oidc.provider import OidcClient, OidcProvider
        from streams.features.sign_in.oidc import OIDC_CALLBACK_PATH

        client = OidcClient(
            settings.oidc_issuer,
            settings.oidc_client_id,
            settings.oidc_client_secret.get_secret_value(),
            settings.oidc_scopes,
            f"{settings.url.rstrip('/')}{OIDC_CALLBACK_PATH}",
        )
        return OidcProvider(client, self.clock, self._ssl_context())

    def _ssl_context(self) -> ssl.SSLContext:
        tls = ssl.create_default_context()
        trust_ca_file(tls, self.settings.ca_file)
        return tls
