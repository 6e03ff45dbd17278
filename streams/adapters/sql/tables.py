"""The tables, as both databases have them."""

from datetime import UTC, datetime

from sqlalchemy import JSON as Json
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class Moment(TypeDecorator[datetime]):
    """An aware UTC time; SQLite, which has no zones, keeps it as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("emails", Json, nullable=False),
    Column("plan_limit", BigInteger),
    Column("created_at", Moment, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("sha256", Text, nullable=False, unique=True),
    Column("created_at", Moment, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("fallback_url", Text),
    Column("description", Text, nullable=False, server_default=""),
    Column("event_types", Json, nullable=False),
    Column("packages", Json, nullable=False),
    Column("dispatches", Json, nullable=False),
    Column("secrets", Json, nullable=False),
    Column("sealed_headers", Text),
    Column("max_concurrency", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("pause_id", Text),
    Column("pause_reason", Text),
    Column("paused_at", Moment),
    Column("health_epoch", Integer, nullable=False, server_default=text("1")),
    Column("version", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("published_at", Moment),
    Column("deleted_at", Moment),
)

# Webhooks whose newest version is not on the topic yet: a set, not a queue.
dirty_webhooks = Table(
    "dirty_webhooks",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
)

leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("expires_at", Moment, nullable=False),
)

bodies = Table(
    "bodies",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("trace_parent", Text),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_type", Text, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("first_seen_at", Moment, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("target", Text, nullable=False),
    Column("changed_at", Moment, nullable=False),
    Column("tier", Text),
    Column("due_at", Moment),
    Column("reason", Text),
    Column("words", Text),
    Column("pause_id", Text),
    Column("target_attempt", Integer, nullable=False, server_default=text("1")),
    Index(None, "account_id", "first_seen_at", "id"),
    Index(None, "webhook_id", "state", "first_seen_at"),
)
_held = deliveries.c.state == "held"
Index(
    "ix_deliveries_held",
    deliveries.c.webhook_id,
    deliveries.c.first_seen_at,
    postgresql_where=_held,
    sqlite_where=_held,
)
# What was sent on by `publish` and not yet attempted: a record of fan-out has step 1, one that waits a tier.
UNDER_WAY = (deliveries.c.state == "waiting") & deliveries.c.tier.is_(None) & (deliveries.c.step > 1)
Index("ix_deliveries_under_way", deliveries.c.webhook_id, postgresql_where=UNDER_WAY, sqlite_where=UNDER_WAY)

# Each pause, and what was decided for what it holds when it ended; None while it lasts.
pauses = Table(
    "pauses",
    metadata,
    Column("id", Text, primary_key=True),
    Column("webhook_id", Text, nullable=False, index=True),
    Column("reason", Text, nullable=False),
    Column("began_at", Moment, nullable=False),
    Column("ended_at", Moment),
    Column("choice", Text),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("delivery_id", Text, nullable=False, index=True),
    Column("webhook_id", Text, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("number", Integer, nullable=False),
    Column("trigger", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("ended_at", Moment, nullable=False),
    Column("request_headers", Json, nullable=False),
    Column("status", Integer),
    Column("answer_headers", Json, nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("words", Text, nullable=False),
    Column("followed", Text, nullable=False),
    Column("tier", Text),
)

health = Table(
    "health",
    metadata,
    Column("webhook_id", Text, primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("first_failed_at", Moment),
    Column("last_failed_at", Moment),
)

# Mails owed: one for each pause, whatever happens between here and the mail server.
mails = Table(
    "mails",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False, index=True),
    Column("webhook_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("pause_id", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("sent", Boolean, nullable=False, server_default=text("false")),
    UniqueConstraint("pause_id", "kind"),
)
