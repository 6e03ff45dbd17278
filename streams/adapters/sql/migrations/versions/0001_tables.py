"""The tables of version 0.1.0."""

import sqlalchemy as sa
from alembic import op

from streams.adapters.sql.tables.types import Moment

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("emails", sa.JSON(), nullable=False),
        sa.Column("plan_limit", sa.BigInteger(), nullable=True),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("weekly_digest", sa.Boolean(), server_default=sa.true(), nullable=False),
        sa.Column("muted_mails", sa.JSON(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=False),
        sa.Column("request_headers", sa.JSON(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("response_headers", sa.JSON(), nullable=False),
        sa.Column("response_body", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("next_step", sa.Text(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("webhook_version", sa.BigInteger(), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("first_seen_at", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_delivery_id"), "attempts", ["delivery_id"], unique=False)
    op.create_index(
        "ix_attempts_failed",
        "attempts",
        ["webhook_id", "started_at"],
        unique=False,
        postgresql_where=sa.text("outcome != 'delivered'"),
        sqlite_where=sa.text("outcome != 'delivered'"),
    )
    op.create_index(
        "ix_attempts_failed_account",
        "attempts",
        ["account_id", "first_seen_at", "delivery_id", "outcome", "status"],
        unique=False,
        postgresql_where=sa.text("outcome != 'delivered'"),
        sqlite_where=sa.text("outcome != 'delivered'"),
    )
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_account_id_at_id"), "audit_log", ["account_id", "at", "id"], unique=False)
    op.create_index(op.f("ix_audit_log_at"), "audit_log", ["at"], unique=False)
    op.create_index(op.f("ix_audit_log_object_id_at_id"), "audit_log", ["object_id", "at", "id"], unique=False)
    op.create_table(
        "commit_urls",
        sa.Column("token_sha256", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("token_sha256", name=op.f("pk_commit_urls")),
    )
    op.create_index(
        op.f("ix_commit_urls_account_id_session_id"), "commit_urls", ["account_id", "session_id"], unique=False
    )
    op.create_index(op.f("ix_commit_urls_expires_at"), "commit_urls", ["expires_at"], unique=False)
    op.create_table(
        "counted_launches",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "event_id", name=op.f("pk_counted_launches")),
    )
    op.create_index(op.f("ix_counted_launches_month"), "counted_launches", ["month"], unique=False)
    op.create_table(
        "course_sessions",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("package_id", sa.Text(), nullable=False),
        sa.Column("learner_id", sa.Text(), nullable=False),
        sa.Column("dispatch_id", sa.Text(), nullable=True),
        sa.Column("launched_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("progress", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.Column("last_commit_at", Moment(), nullable=True),
        sa.Column("closed_at", Moment(), nullable=True),
        sa.Column("score_due_at", Moment(), nullable=True),
        sa.Column("metadata", sa.Text(), nullable=True),
        sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("end_due_at", Moment(), nullable=True),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("stored_state", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("account_id", "id", name=op.f("pk_course_sessions")),
    )
    op.create_index(
        op.f("ix_course_sessions_account_id_learner_id"), "course_sessions", ["account_id", "learner_id"], unique=False
    )
    op.create_index(
        "ix_course_sessions_ends",
        "course_sessions",
        ["account_id", "end_due_at"],
        unique=False,
        postgresql_where=sa.text("end_due_at IS NOT NULL"),
        sqlite_where=sa.text("end_due_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_course_sessions_expires_at"), "course_sessions", ["expires_at"], unique=False)
    op.create_index(
        "ix_course_sessions_score_due_at",
        "course_sessions",
        ["score_due_at"],
        unique=False,
        postgresql_where=sa.text("score_due_at IS NOT NULL"),
        sqlite_where=sa.text("score_due_at IS NOT NULL"),
    )
    op.create_index(
        "ix_course_sessions_states",
        "course_sessions",
        ["account_id", "learner_id", "package_id"],
        unique=False,
        postgresql_where=sa.text("stored_state IN ('stored', 'too large')"),
        sqlite_where=sa.text("stored_state IN ('stored', 'too large')"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("event_type", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("first_seen_at", Moment(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("changed_at", Moment(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=True),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("pause_id", sa.Text(), nullable=True),
        sa.Column("target_attempt", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("held_since", Moment(), nullable=True),
        sa.Column("leased_until", Moment(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deliveries")),
    )
    op.create_index(op.f("ix_deliveries_account_id_event_id"), "deliveries", ["account_id", "event_id"], unique=False)
    op.create_index(
        op.f("ix_deliveries_account_id_event_type_first_seen_at_id"),
        "deliveries",
        ["account_id", "event_type", "first_seen_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_deliveries_account_id_first_seen_at_id"),
        "deliveries",
        ["account_id", "first_seen_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_deliveries_account_state",
        "deliveries",
        ["account_id", "state", "first_seen_at", "id"],
        unique=False,
        postgresql_where=sa.text("state != 'delivered'"),
        sqlite_where=sa.text("state != 'delivered'"),
    )
    op.create_index(
        "ix_deliveries_done",
        "deliveries",
        ["changed_at"],
        unique=False,
        postgresql_where=sa.text("state IN ('delivered', 'discarded', 'failed')"),
        sqlite_where=sa.text("state IN ('delivered', 'discarded', 'failed')"),
    )
    op.create_index(
        "ix_deliveries_held",
        "deliveries",
        ["webhook_id", "first_seen_at"],
        unique=False,
        postgresql_where=sa.text("state = 'held' AND reason != 'pull'"),
        sqlite_where=sa.text("state = 'held' AND reason != 'pull'"),
    )
    op.create_index(
        "ix_deliveries_pull",
        "deliveries",
        ["webhook_id", "due_at", "id"],
        unique=False,
        postgresql_where=sa.text("state = 'held' AND reason = 'pull'"),
        sqlite_where=sa.text("state = 'held' AND reason = 'pull'"),
    )
    op.create_index(
        "ix_deliveries_pulled",
        "deliveries",
        ["webhook_id", "held_since"],
        unique=False,
        postgresql_where=sa.text("state = 'held' AND reason = 'pull' AND held_since IS NOT NULL"),
        sqlite_where=sa.text("state = 'held' AND reason = 'pull' AND held_since IS NOT NULL"),
    )
    op.create_index(
        "ix_deliveries_under_way",
        "deliveries",
        ["webhook_id"],
        unique=False,
        postgresql_where=sa.text("state = 'waiting' AND tier IS NULL AND step > 1"),
        sqlite_where=sa.text("state = 'waiting' AND tier IS NULL AND step > 1"),
    )
    op.create_index(
        op.f("ix_deliveries_webhook_id_first_seen_at_id"),
        "deliveries",
        ["webhook_id", "first_seen_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_deliveries_webhook_state",
        "deliveries",
        ["webhook_id", "state", "first_seen_at", "id"],
        unique=False,
        postgresql_where=sa.text("state != 'delivered'"),
        sqlite_where=sa.text("state != 'delivered'"),
    )
    op.create_table(
        "dirty_erasures",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("learner_hash", sa.Text(), nullable=False),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "learner_hash", name=op.f("pk_dirty_erasures")),
    )
    op.create_table(
        "dirty_webhooks",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_dirty_webhooks")),
    )
    op.create_table(
        "encryption_check",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_encryption_check")),
    )
    op.create_table(
        "erased_learners",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("learner_hash", sa.Text(), nullable=False),
        sa.Column("hash_key_id", sa.Text(), nullable=False),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "learner_hash", name=op.f("pk_erased_learners")),
    )
    op.create_index(op.f("ix_erased_learners_erased_at"), "erased_learners", ["erased_at"], unique=False)
    op.create_table(
        "event_metadata",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("first_seen_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "event_id", "hash", name=op.f("pk_event_metadata")),
    )
    op.create_index(
        op.f("ix_event_metadata_account_id_hash_first_seen_at_event_id"),
        "event_metadata",
        ["account_id", "hash", "first_seen_at", "event_id"],
        unique=False,
    )
    op.create_table(
        "events",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("first_seen_at", Moment(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("trace_parent", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Text(), nullable=True),
        sa.Column("learner_id", sa.Text(), nullable=True),
        sa.Column("package_id", sa.Text(), nullable=True),
        sa.Column("dispatch_id", sa.Text(), nullable=True),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "event_id", name=op.f("pk_events")),
    )
    op.create_index(
        "ix_events_learner",
        "events",
        ["account_id", sa.text("substr(learner_id, 1, 200)"), "first_seen_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("learner_id IS NOT NULL"),
        sqlite_where=sa.text("learner_id IS NOT NULL"),
    )
    op.create_index(
        "ix_events_dispatch",
        "events",
        ["account_id", "dispatch_id", "first_seen_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("dispatch_id IS NOT NULL"),
        sqlite_where=sa.text("dispatch_id IS NOT NULL"),
    )
    op.create_index(
        "ix_events_package",
        "events",
        ["account_id", "package_id", "first_seen_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("package_id IS NOT NULL"),
        sqlite_where=sa.text("package_id IS NOT NULL"),
    )
    op.create_index(
        "ix_events_session",
        "events",
        ["account_id", "session_id", "first_seen_at", "event_id"],
        unique=False,
        postgresql_where=sa.text("session_id IS NOT NULL"),
        sqlite_where=sa.text("session_id IS NOT NULL"),
    )
    op.create_table(
        "failed_work",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("work_id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", Moment(), nullable=False),
        sa.Column("last_failed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "work_id", name=op.f("pk_failed_work")),
    )
    op.create_index(op.f("ix_failed_work_last_failed_at"), "failed_work", ["last_failed_at"], unique=False)
    op.create_table(
        "hourly_attempts",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("hour", Moment(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.Float(), nullable=False),
        sa.Column("slowest_ms", sa.Float(), nullable=False),
        sa.Column("last_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", "hour", "outcome", name=op.f("pk_hourly_attempts")),
    )
    op.create_index(op.f("ix_hourly_attempts_hour"), "hourly_attempts", ["hour"], unique=False)
    op.create_table(
        "idempotency_keys",
        sa.Column("caller", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("begun_at", Moment(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("encrypted_response", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("caller", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_begun_at"), "idempotency_keys", ["begun_at"], unique=False)
    op.create_table(
        "learner_hash_key",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_learner_hash_key")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "mails",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("due_at", Moment(), nullable=True),
        sa.Column("sent_at", Moment(), nullable=True),
        sa.Column("problem", sa.Text(), nullable=True),
        sa.Column("unreached", sa.JSON(), nullable=True),
        sa.Column("others", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sent_with", sa.Text(), nullable=True),
        sa.Column("is_open", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("is_event_due", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mails")),
        sa.UniqueConstraint("key", name=op.f("uq_mails_key")),
    )
    op.create_index(
        op.f("ix_mails_account_id_created_at_id"), "mails", ["account_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_mails_webhook_id_created_at"), "mails", ["webhook_id", "created_at"], unique=False)
    op.create_index(
        "ix_mails_is_event_due",
        "mails",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("is_event_due"),
        sqlite_where=sa.text("is_event_due = 1"),
    )
    op.create_index(
        "ix_mails_is_open",
        "mails",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("is_open"),
        sqlite_where=sa.text("is_open = 1"),
    )
    op.create_index(
        "ix_mails_turns",
        "mails",
        ["kind", "account_id", "due_at"],
        unique=False,
        postgresql_where=sa.text("due_at IS NOT NULL"),
        sqlite_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_table(
        "outgoing_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outgoing_events")),
    )
    op.create_index(op.f("ix_outgoing_events_created_at_id"), "outgoing_events", ["created_at", "id"], unique=False)
    op.create_table(
        "pauses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("began_at", Moment(), nullable=False),
        sa.Column("ended_at", Moment(), nullable=True),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
    )
    op.create_index(op.f("ix_pauses_webhook_id"), "pauses", ["webhook_id"], unique=False)
    op.create_table(
        "pending_sign_ins",
        sa.Column("state_sha256", sa.Text(), nullable=False),
        sa.Column("browser_sha256", sa.Text(), nullable=False),
        sa.Column("ciphertext", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("state_sha256", name=op.f("pk_pending_sign_ins")),
    )
    op.create_index(op.f("ix_pending_sign_ins_expires_at"), "pending_sign_ins", ["expires_at"], unique=False)
    op.create_table(
        "player_states",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("committed_at", Moment(), nullable=False),
        sa.Column("encrypted_state", sa.Text(), nullable=False),
        sa.Column("state_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "session_id", name=op.f("pk_player_states")),
    )
    op.create_index(
        op.f("ix_player_states_account_id_state_bytes"), "player_states", ["account_id", "state_bytes"], unique=False
    )
    op.create_table(
        "replayed_records",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("stored_at", Moment(), nullable=False),
        sa.Column("replayed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "stored_at", name=op.f("pk_replayed_records")),
    )
    op.create_index(op.f("ix_replayed_records_replayed_at"), "replayed_records", ["replayed_at"], unique=False)
    op.create_table(
        "pull_rates",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("used_until", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_pull_rates")),
    )
    op.create_table(
        "response_times",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("hour", Moment(), nullable=False),
        sa.Column("up_to_ms", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("webhook_id", "hour", "up_to_ms", name=op.f("pk_response_times")),
    )
    op.create_index(op.f("ix_response_times_hour"), "response_times", ["hour"], unique=False)
    op.create_table(
        "restores",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dump", sa.Text(), nullable=False),
        sa.Column("since", Moment(), nullable=False),
        sa.Column("started_at", Moment(), nullable=False),
        sa.Column("last_step", sa.Text(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_restores")),
    )
    op.create_table(
        "unknown_accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("first_at", Moment(), nullable=False),
        sa.Column("last_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_unknown_accounts")),
    )
    op.create_table(
        "usage_details",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("package_id", sa.Text(), nullable=False),
        sa.Column("dispatch_id", sa.Text(), nullable=False),
        sa.Column("launches", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "month", "package_id", "dispatch_id", name=op.f("pk_usage_details")),
    )
    op.create_table(
        "usage_months",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("launches", sa.BigInteger(), nullable=False),
        sa.Column("late_launches", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "month", name=op.f("pk_usage_months")),
    )
    op.create_table(
        "usage_notices",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("month", sa.Text(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("launches", sa.BigInteger(), nullable=False),
        sa.Column("plan_limit", sa.BigInteger(), nullable=False),
        sa.Column("at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "month", "percent", name=op.f("pk_usage_notices")),
    )
    op.create_table(
        "usage_positions",
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("incarnation", sa.Text(), nullable=False),
        sa.Column("next_offset", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_usage_positions")),
    )
    op.create_table(
        "webhook_health",
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("first_failed_at", Moment(), nullable=True),
        sa.Column("last_failed_at", Moment(), nullable=True),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("webhook_id", name=op.f("pk_webhook_health")),
    )
    op.create_index(
        "ix_webhook_health_failing",
        "webhook_health",
        ["first_failed_at"],
        unique=False,
        postgresql_where=sa.text("failures > 0"),
        sqlite_where=sa.text("failures > 0"),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.Column("revoked_at", Moment(), nullable=True),
        sa.Column("last_used_at", Moment(), nullable=True),
        sa.Column("person", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("sha256", name=op.f("uq_api_keys_sha256")),
    )
    op.create_index(op.f("ix_api_keys_account_id"), "api_keys", ["account_id"], unique=False)
    op.create_index(op.f("ix_api_keys_expires_at"), "api_keys", ["expires_at"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("learner_hash", sa.Text(), nullable=False),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("step", sa.Text(), nullable=True),
        sa.Column("place", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("encrypted_learner", sa.Text(), nullable=True),
        sa.Column("finished_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_erasures_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index(
        op.f("ix_erasures_account_id_learner_hash"), "erasures", ["account_id", "learner_hash"], unique=False
    )
    op.create_index(op.f("ix_erasures_erased_at"), "erasures", ["erased_at"], unique=False)
    op.create_index(
        "ix_erasures_unfinished",
        "erasures",
        ["created_at"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("filter", sa.JSON(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", Moment(), nullable=True),
        sa.Column("reached", Moment(), nullable=True),
        sa.Column("cancelled", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("backfill", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_jobs_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_account_id_created_at_id"), "jobs", ["account_id", "created_at", "id"], unique=False)
    op.create_index(
        "ix_jobs_turns",
        "jobs",
        ["account_id", "created_at", "id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_users_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("account_id", "email", name=op.f("uq_users_account_id_email")),
    )
    op.create_index(op.f("ix_users_email"), "users", ["email"], unique=False)
    op.create_table(
        "webhooks",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("fallback_url", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("event_types", sa.JSON(), nullable=False),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.Column("dispatches", sa.JSON(), nullable=False),
        sa.Column("secrets", sa.JSON(), nullable=False),
        sa.Column("encrypted_headers", sa.Text(), nullable=True),
        sa.Column("encrypted_fallback_headers", sa.Text(), nullable=True),
        sa.Column("encrypted_auth_secret", sa.Text(), nullable=True),
        sa.Column("max_concurrency", sa.Integer(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("pause_id", sa.Text(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("paused_at", Moment(), nullable=True),
        sa.Column("health_epoch", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("published_at", Moment(), nullable=True),
        sa.Column("deleted_at", Moment(), nullable=True),
        sa.Column("url_changed_at", Moment(), nullable=True),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("options", sa.Text(), nullable=True),
        sa.Column("probe_at", Moment(), nullable=True),
        sa.Column("old_secret_until", Moment(), nullable=True),
        sa.Column("certificate_ends_at", Moment(), nullable=True),
        sa.Column("expires_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_webhooks_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_account_id"), "webhooks", ["account_id"], unique=False)
    op.create_index(
        "ix_webhooks_paused_at",
        "webhooks",
        ["paused_at"],
        unique=False,
        postgresql_where=sa.text("paused_at IS NOT NULL"),
        sqlite_where=sa.text("paused_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhooks_old_secret_until",
        "webhooks",
        ["old_secret_until"],
        unique=False,
        postgresql_where=sa.text("old_secret_until IS NOT NULL"),
        sqlite_where=sa.text("old_secret_until IS NOT NULL"),
    )
    op.create_index(
        "ix_webhooks_certificate_ends_at",
        "webhooks",
        ["certificate_ends_at"],
        unique=False,
        postgresql_where=sa.text("certificate_ends_at IS NOT NULL"),
        sqlite_where=sa.text("certificate_ends_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhooks_expires_at",
        "webhooks",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text("expires_at IS NOT NULL"),
        sqlite_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_index(
        "ix_webhooks_probe_at",
        "webhooks",
        ["probe_at"],
        unique=False,
        postgresql_where=sa.text("probe_at IS NOT NULL"),
        sqlite_where=sa.text("probe_at IS NOT NULL"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("used_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("proved_email", sa.Text(), nullable=True),
        sa.Column("return_url", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("account_ids", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sessions_account_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sessions_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("sha256", name=op.f("uq_sessions_sha256")),
    )
    op.create_index(
        op.f("ix_sessions_account_id_created_at_id"), "sessions", ["account_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_sessions_expires_at"), "sessions", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sessions_user_id"), "sessions", ["user_id"], unique=False)
    op.create_table(
        "sign_ins",
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", Moment(), nullable=False),
        sa.Column("expires_at", Moment(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=True),
        sa.Column("return_url", sa.Text(), nullable=True),
        sa.Column("browser_sha256", sa.Text(), nullable=True),
        sa.Column("code_sha256", sa.Text(), nullable=True),
        sa.Column("guesses_left", sa.Integer(), nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("used_at", Moment(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_sign_ins_account_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_sign_ins_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_sign_ins")),
        sa.UniqueConstraint("browser_sha256", name=op.f("uq_sign_ins_browser_sha256")),
    )
    op.create_index(op.f("ix_sign_ins_email_created_at"), "sign_ins", ["email", "created_at"], unique=False)
    op.create_index(op.f("ix_sign_ins_expires_at"), "sign_ins", ["expires_at"], unique=False)
    op.create_index(op.f("ix_sign_ins_user_id"), "sign_ins", ["user_id"], unique=False)


def downgrade() -> None:
    op.drop_table("sign_ins")
    op.drop_table("sessions")
    op.drop_table("webhooks")
    op.drop_table("users")
    op.drop_table("jobs")
    op.drop_table("erasures")
    op.drop_table("api_keys")
    op.drop_table("webhook_health")
    op.drop_table("usage_positions")
    op.drop_table("usage_notices")
    op.drop_table("usage_months")
    op.drop_table("usage_details")
    op.drop_table("unknown_accounts")
    op.drop_table("pull_rates")
    op.drop_table("restores")
    op.drop_table("response_times")
    op.drop_table("replayed_records")
    op.drop_table("player_states")
    op.drop_table("pending_sign_ins")
    op.drop_table("pauses")
    op.drop_table("outgoing_events")
    op.drop_table("mails")
    op.drop_table("leases")
    op.drop_table("learner_hash_key")
    op.drop_table("idempotency_keys")
    op.drop_table("hourly_attempts")
    op.drop_table("failed_work")
    op.drop_table("events")
    op.drop_table("event_metadata")
    op.drop_table("erased_learners")
    op.drop_table("encryption_check")
    op.drop_table("dirty_webhooks")
    op.drop_table("dirty_erasures")
    op.drop_table("deliveries")
    op.drop_table("course_sessions")
    op.drop_table("counted_launches")
    op.drop_table("commit_urls")
    op.drop_table("audit_log")
    op.drop_table("attempts")
    op.drop_table("accounts")
