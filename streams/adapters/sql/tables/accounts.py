"""Tables for accounts, access, the audit log, jobs and mails."""

from sqlalchemy import JSON as Json
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
    true,
)

from streams.adapters.sql.tables.types import Moment, metadata

accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("emails", Json, nullable=False),
    Column("plan_limit", BigInteger),
    Column("created_at", Moment, nullable=False),
    Column("weekly_digest", Boolean, nullable=False, server_default=true()),
    Column("muted_mails", Json, nullable=False, server_default="[]"),
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
    Column("scopes", Json, nullable=False),
    Column("expires_at", Moment, index=True),
    Column("revoked_at", Moment),
    Column("last_used_at", Moment),
    # The actor whose terminal has the key. Other keys belong to the account alone.
    Column("person", Text),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("email", Text, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("role", Text, nullable=False),
    UniqueConstraint("account_id", "email"),
)

# Each signs in once. Only hashes of its tokens and its code are stored.
sign_ins = Table(
    "sign_ins",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("actor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Column("email", Text),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), index=True),
    Column("account_id", Text, ForeignKey("accounts.id")),
    Column("role", Text),
    Column("return_url", Text),
    Column("browser_sha256", Text, unique=True),
    Column("code_sha256", Text),
    Column("guesses_left", Integer, nullable=False),
    Column("is_operator", Boolean, nullable=False),
    Column("used_at", Moment),
    Index(None, "email", "created_at"),
)

# Each waits for the response of an OpenID Connect provider, and is deleted when the response comes.
pending_sign_ins = Table(
    "pending_sign_ins",
    metadata,
    Column("state_sha256", Text, primary_key=True),
    Column("browser_sha256", Text, nullable=False),
    Column("ciphertext", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("actor", Text, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("used_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Column("account_id", Text, ForeignKey("accounts.id")),
    Column("role", Text),
    Column("user_id", Text, ForeignKey("users.id", ondelete="CASCADE"), index=True),
    Column("email", Text),
    # The address that the person proved to have. Without it the session may not choose another account.
    Column("proved_email", Text),
    Column("return_url", Text),
    Column("address", Text, nullable=False),
    Column("user_agent", Text, nullable=False),
    Column("is_operator", Boolean, nullable=False),
    # The accounts to choose from, if a provider names them.
    Column("account_ids", Json, nullable=False),
    Index(None, "account_id", "created_at", "id"),
)

# Who did what. Only retention deletes rows, and nothing updates them.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("account_id", Text),
    Column("object_id", Text, nullable=False),
    Column("details", Json, nullable=False),
    Index(None, "account_id", "at", "id"),
    Index(None, "object_id", "at", "id"),
)

# Responses to requests that may be repeated. Without a status the request is still in progress.
idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", Text, nullable=False),
    Column("begun_at", Moment, nullable=False, index=True),
    Column("status", Integer),
    Column("encrypted_response", Text),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("filter", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("finished_at", Moment),
    Column("reached", Moment),
    Column("cancelled", Boolean, nullable=False, server_default=false()),
    # NULL for a job without a backfill. JSON's null would not be the same.
    Column("backfill", Json(none_as_null=True)),
    Index(None, "account_id", "created_at", "id"),
)
# The accounts with unfinished jobs, one after the other.
Index(
    "ix_jobs_turns",
    jobs.c.account_id,
    jobs.c.created_at,
    jobs.c.id,
    postgresql_where=jobs.c.finished_at.is_(None),
    sqlite_where=jobs.c.finished_at.is_(None),
)

# One mail for each reason, which `key` names.
mails = Table(
    "mails",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("account_id", Text, nullable=False),
    Column("webhook_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("details", Json, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    # The time of the next try. NULL once the mail is sent or given up.
    Column("due_at", Moment),
    Column("sent_at", Moment),
    Column("problem", Text),
    Column("unreached", Json),
    Column("others", Json(none_as_null=True)),
    Column("sent_with", Text),
    # Whether the trouble that it reports is still going on.
    Column("is_open", Boolean, nullable=False, server_default=false()),
    # Whether its event for other webhooks must still be stored.
    Column("is_event_due", Boolean, nullable=False, server_default=false()),
    Index(None, "account_id", "created_at", "id"),
    Index(None, "webhook_id", "created_at"),
)
for _name in ("is_open", "is_event_due"):
    Index(f"ix_mails_{_name}", mails.c.created_at, postgresql_where=mails.c[_name], sqlite_where=text(f"{_name} = 1"))
# The accounts with due mails of a kind, one after the other.
Index(
    "ix_mails_turns",
    mails.c.kind,
    mails.c.account_id,
    mails.c.due_at,
    postgresql_where=mails.c.due_at.is_not(None),
    sqlite_where=mails.c.due_at.is_not(None),
)

# Work that failed because of its row. Written at each failure, for operators to read.
failed_work = Table(
    "failed_work",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("work_id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("first_failed_at", Moment, nullable=False),
    Column("last_failed_at", Moment, nullable=False, index=True),
)

# Invalid records that were produced again, by place and time on `session-events.invalid`.
replayed_records = Table(
    "replayed_records",
    metadata,
    Column("record_id", Text, primary_key=True),
    Column("stored_at", Moment, primary_key=True),
    Column("replayed_at", Moment, nullable=False, index=True),
)
