"""Access, the audit log, jobs, mails with their facts, attempts by the hour, and an index for each filter."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
ALL_SCOPES = '["deliveries:read", "deliveries:write", "events:write", "webhooks:read", "webhooks:write"]'
NOT_DELIVERED = sa.text("state != 'delivered'")
DONE = sa.text("state IN ('delivered', 'discarded')")
BY_AGE = ["first_seen_at", "id"]


def upgrade() -> None:
    op.add_column("accounts", sa.Column("weekly_digest", sa.Boolean(), server_default=sa.true(), nullable=False))
    _add_access()
    _add_work()
    _add_numbers()
    _turn_mails()
    for name, columns, where in _INDEXES:
        op.create_index(name, "deliveries", columns, postgresql_where=where, sqlite_where=where)
    op.drop_index("ix_deliveries_webhook_id_state_first_seen_at", "deliveries")


_INDEXES = (
    ("ix_deliveries_account_id_event_id", ["account_id", "event_id"], None),
    ("ix_deliveries_account_id_event_type_first_seen_at_id", ["account_id", "event_type", *BY_AGE], None),
    ("ix_deliveries_webhook_id_first_seen_at_id", ["webhook_id", *BY_AGE], None),
    ("ix_deliveries_webhook_state", ["webhook_id", "state", *BY_AGE], NOT_DELIVERED),
    ("ix_deliveries_account_state", ["account_id", "state", *BY_AGE], NOT_DELIVERED),
    ("ix_deliveries_done", ["changed_at"], DONE),
)


def _add_access() -> None:
    with op.batch_alter_table("api_keys") as keys:
        # Until now every key could do everything.
        keys.add_column(sa.Column("scopes", sa.JSON(), nullable=False, server_default=sa.text(f"'{ALL_SCOPES}'")))
        for name in ("expires_at", "revoked_at", "last_used_at"):
            keys.add_column(sa.Column(name, TIME, nullable=True))
    with op.batch_alter_table("api_keys") as keys:
        keys.alter_column("scopes", server_default=None)
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_users_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("account_id", "email", name=op.f("uq_users_account_id_email")),
    )
    op.create_table(
        "sign_in_links",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sign_in_links_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_sign_in_links")),
    )
    op.create_index("ix_sign_in_links_user_id", "sign_in_links", ["user_id"])


def _add_work() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_account_id_at_id", "audit", ["account_id", "at", "id"])
    op.create_table(
        "idempotency",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("begun_at", TIME, nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("encrypted_response", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_idempotency")),
    )
    op.create_index("ix_idempotency_begun_at", "idempotency", ["begun_at"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("wanted", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("total", "done", "failed")),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_jobs_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index("ix_jobs_account_id_created_at_id", "jobs", ["account_id", "created_at", "id"])
    unfinished = sa.text("finished_at IS NULL")
    op.create_index("ix_jobs_unfinished", "jobs", ["created_at"], postgresql_where=unfinished, sqlite_where=unfinished)


def _add_numbers() -> None:
    op.add_column("health", sa.Column("last_status", sa.Integer(), nullable=True))
    op.add_column("health", sa.Column("last_message", sa.Text(), nullable=True))
    op.create_table(
        "hours",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("hour", TIME, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.Float(), nullable=False),
        sa.Column("slowest_ms", sa.Float(), nullable=False),
        sa.Column("last_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", "hour", "outcome", name=op.f("pk_hours")),
    )
    op.create_index("ix_hours_hour", "hours", ["hour"])


def _turn_mails() -> None:
    """A mail knows by itself what it says, and may be about more than a pause."""
    op.create_table(
        "new_mails",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default=sa.text("0")),
        sa.Column("due_at", TIME, nullable=True),
        sa.Column("sent_at", TIME, nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
    )
    # Nobody was told of these pauses while there was nothing that sends mails; now it would be late.
    op.execute(
        "INSERT INTO new_mails (id, key, account_id, webhook_id, kind, facts, created_at, trouble) "
        "SELECT id, kind || '/' || pause_id, account_id, webhook_id, kind, '{}', created_at, "
        "'It was owed before this version sent mails.' FROM mails"
    )
    op.drop_table("mails")
    op.rename_table("new_mails", "mails")
    with op.batch_alter_table("mails") as mails:
        mails.create_primary_key(op.f("pk_mails"), ["id"])
        mails.create_unique_constraint(op.f("uq_mails_key"), ["key"])
    op.create_index("ix_mails_due_at", "mails", ["due_at"])
    op.create_index("ix_mails_account_id_created_at_id", "mails", ["account_id", "created_at", "id"])


def downgrade() -> None:
    op.create_index(
        "ix_deliveries_webhook_id_state_first_seen_at", "deliveries", ["webhook_id", "state", "first_seen_at"]
    )
    for name, _, _ in _INDEXES:
        op.drop_index(name, "deliveries")
    _turn_mails_back()
    for table in ("hours", "jobs", "idempotency", "audit", "sign_in_links", "users"):
        op.drop_table(table)
    with op.batch_alter_table("health") as health:
        health.drop_column("last_message")
        health.drop_column("last_status")
    with op.batch_alter_table("api_keys") as keys:
        for name in ("last_used_at", "revoked_at", "expires_at", "scopes"):
            keys.drop_column(name)
    with op.batch_alter_table("accounts") as accounts:
        accounts.drop_column("weekly_digest")


def _turn_mails_back() -> None:
    op.create_table(
        "old_mails",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("sent", sa.Boolean(), server_default=sa.false(), nullable=False),
    )
    op.execute(
        "INSERT INTO old_mails (id, account_id, webhook_id, kind, pause_id, created_at, sent) "
        "SELECT id, account_id, webhook_id, kind, substr(key, length(kind) + 2), created_at, sent_at IS NOT NULL "
        "FROM mails WHERE kind = 'paused'"
    )
    op.drop_table("mails")
    op.rename_table("old_mails", "mails")
    with op.batch_alter_table("mails") as mails:
        mails.create_primary_key(op.f("pk_mails"), ["id"])
        mails.create_unique_constraint(op.f("uq_mails_pause_id_kind"), ["pause_id", "kind"])
    op.create_index("ix_mails_account_id", "mails", ["account_id"])
