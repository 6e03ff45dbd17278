"""The composition root: a deployment's products in, what stages and people need out."""

import os
import secrets
import socket
import ssl
from datetime import timedelta
from functools import cached_property

from ulid import ULID

from streams.adapters.certificates import trust
from streams.adapters.dns_check import SystemDnsCheck
from streams.adapters.smtp import SmtpTransport, smtp_server
from streams.adapters.sql.account_webhooks import SqlAccountWebhooks
from streams.adapters.sql.accounts import SqlAccounts, SqlApiKeys, SqlUsers
from streams.adapters.sql.audit import SqlAuditLog
from streams.adapters.sql.delivery_log import SqlDeliveryLog
from streams.adapters.sql.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.held import SqlHeldDeliveries
from streams.adapters.sql.jobs import SqlJobs
from streams.adapters.sql.lost_deliveries import SqlLostDeliveries
from streams.adapters.sql.mails import SqlMails
from streams.adapters.sql.outbox import SqlLease, SqlOutbox
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.recorder import SqlRecorder
from streams.adapters.sql.replays import SqlReplays
from streams.adapters.sql.webhook_stats import SqlWebhookStats
from streams.adapters.sql.webhooks import SqlWebhooks
from streams.ports import Mails, MailTransport, Prunable, RecordProducer, Telemetry
from streams.runtime.deployment import Deployment, new_id
from streams.services.access import AccessService
from streams.services.accounts import AccountService
from streams.services.deliveries import DeliveryService
from streams.services.ingest import IngestService
from streams.services.recipients import RecipientService
from streams.services.secrets import SecretService
from streams.services.synthetic_events import SyntheticEventService
from streams.services.webhook_stats import WebhookStatsService
from streams.services.webhooks import WebhookService

__all__ = ["SqlDeployment", "new_id"]


class SqlDeployment(Deployment):
    """One deployment, ready to be asked for what it needs."""

    @cached_property
    def encryption_check(self) -> SqlEncryptionCheck:
        return SqlEncryptionCheck(self.database, self.encryption)

    # -- for stages --------------------------------------------------------------------------------------------

    def recorder(self, telemetry: Telemetry) -> SqlRecorder:
        return SqlRecorder(self.database, self.clock, telemetry, new_id)

    def held(self) -> SqlHeldDeliveries:
        return SqlHeldDeliveries(self.database)

    def forgotten(self) -> SqlLostDeliveries:
        return SqlLostDeliveries(self.database, self.clock)

    def outbox(self) -> SqlOutbox:
        return SqlOutbox(self.database, self.clock)

    def lease(self, name: str) -> SqlLease:
        """What only one process of the deployment may do at a time."""
        holder = f"{socket.gethostname()}/{os.getpid()}/{ULID()}"
        return SqlLease(self.database, self.clock, f"{self.settings.topic_prefix}{name}", holder)

    def jobs(self) -> SqlJobs:
        return SqlJobs(self.database, self.clock)

    def pruning(self) -> SqlPruning:
        return SqlPruning(self.database)

    def keep(self) -> dict[Prunable, timedelta]:
        """How long each kind of row is kept; what is not named is kept until somebody decides."""
        settings = self.settings
        days = {
            Prunable.DELIVERIES: settings.retention_days,
            Prunable.ATTEMPTS_BY_HOUR: max(31, settings.retention_days),
            Prunable.RESPONSE_TIMES: max(31, settings.retention_days),
            Prunable.JOBS: settings.retention_days,
            Prunable.MAILS: settings.audit_retention_days,
            Prunable.AUDIT: settings.audit_retention_days,
            Prunable.RESPONSES: 1,
            Prunable.LINKS: 1,
        }
        if settings.dead_letter_retention_days is not None:
            days[Prunable.DEAD_LETTERS] = settings.dead_letter_retention_days
        return {what: timedelta(days=count) for what, count in days.items()}

    def mails(self) -> Mails:
        return SqlMails(self.database, new_id)

    def transport(self) -> MailTransport | None:
        """The mail server of SMTP_URL; None where it is not set."""
        url = self.environ.get("SMTP_URL")
        if not url:
            return None
        tls = ssl.create_default_context()
        trust(tls, self.settings.ca_file)
        return SmtpTransport(smtp_server(url), self.settings.mail_from, tls)

    # -- services ----------------------------------------------------------------------------------------------

    def accounts(self) -> AccountService:
        return AccountService(SqlAccounts(self.database), self.clock, new_id, _new_token)

    def access(self) -> AccessService:
        keys = [key.get_secret_value() for key in self.settings.operator_keys]
        database = self.database
        return AccessService(
            SqlAccounts(database), SqlApiKeys(database), SqlUsers(database), self.clock, new_id, _new_token, keys
        )

    def webhooks(self) -> WebhookService:
        return WebhookService(
            SqlWebhooks(self.database, self.clock, self.encryption_check),
            SqlAccounts(self.database),
            SqlOutbox(self.database, self.clock),
            self.encryption,
            SystemDnsCheck(self.settings.allowed_networks),
            self.clock,
            new_id,
            secrets.token_bytes,
            self.settings.allow_http,
            self.settings.webhooks_per_account,
        )

    def secrets(self) -> SecretService:
        return SecretService(
            self.webhooks(),
            SqlWebhooks(self.database, self.clock, self.encryption_check),
            self.encryption,
            self.encryption_check,
            self.audit(),
            self.clock,
            new_id,
            secrets.token_bytes,
        )

    def audit(self) -> SqlAuditLog:
        return SqlAuditLog(self.database)

    def synthetic_events(self, producer: RecordProducer) -> SyntheticEventService:
        webhooks, deliveries = (
            SqlWebhooks(self.database, self.clock, self.encryption_check),
            SqlDeliveryLog(self.database),
        )
        return SyntheticEventService(webhooks, deliveries, producer, self.codec, self.clock, new_id)

    def deliveries(self) -> DeliveryService:
        replays = SqlReplays(self.database, self.clock)
        return DeliveryService(SqlDeliveryLog(self.database), replays, self.jobs(), self.clock, new_id)

    def webhook_stats(self) -> WebhookStatsService:
        return WebhookStatsService(
            self.webhooks(), SqlWebhookStats(self.database), self.mails(), self.clock, self.settings.public_url
        )

    def ingest(self, producer: RecordProducer) -> IngestService:
        return IngestService(producer, self.event_codec, self.recipients(), new_id)

    def recipients(self) -> RecipientService:
        return RecipientService(SqlAccountWebhooks(self.database))


def _new_token() -> str:
    return secrets.token_urlsafe(32)
