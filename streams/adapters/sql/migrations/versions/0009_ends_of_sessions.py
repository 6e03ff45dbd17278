"""Ends of sessions, players' states, work that failed, replayed records, and what the topic `erasures` has."""

import sqlalchemy as sa
from alembic import op

from streams.adapters.sql.schema import Moment

revision = "0009.0005"
down_revision = "0008.0005"
branch_labels = None
depends_on = None

IS_OPEN = sa.text("end_due_at IS NOT NULL")
HAS_STATE = sa.text("stored_state IN ('stored', 'too large')")


def upgrade() -> None:
    op.create_table(
        "player_states",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("committed_at", Moment(), nullable=False),
        sa.Column("encrypted_state", sa.Text(), nullable=False),
        sa.Column("state_bytes", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "session_id", name=op.f("pk_player_states")),
    )
    op.create_index(op.f("ix_player_states_account_id_state_bytes"), "player_states", ["account_id", "state_bytes"])
    op.add_column("course_sessions", sa.Column("metadata", sa.Text(), nullable=True))
    op.add_column("course_sessions", sa.Column("sequence", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("course_sessions", sa.Column("end_due_at", Moment(), nullable=True))
    op.add_column("course_sessions", sa.Column("ended_at", Moment(), nullable=True))
    op.add_column("course_sessions", sa.Column("stored_state", sa.Text(), nullable=True))
    op.create_index(
        "ix_course_sessions_ends",
        "course_sessions",
        ["account_id", "end_due_at"],
        postgresql_where=IS_OPEN,
        sqlite_where=IS_OPEN,
    )
    op.create_index(
        "ix_course_sessions_states",
        "course_sessions",
        ["account_id", "learner_id", "package_id"],
        postgresql_where=HAS_STATE,
        sqlite_where=HAS_STATE,
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
    op.create_index(op.f("ix_failed_work_last_failed_at"), "failed_work", ["last_failed_at"])
    op.create_table(
        "replayed_records",
        sa.Column("record_id", sa.Text(), nullable=False),
        sa.Column("stored_at", Moment(), nullable=False),
        sa.Column("replayed_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("record_id", "stored_at", name=op.f("pk_replayed_records")),
    )
    op.create_index(op.f("ix_replayed_records_replayed_at"), "replayed_records", ["replayed_at"])

    op.create_table(
        "erased_learners",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("learner_hash", sa.Text(), nullable=False),
        sa.Column("hash_key_id", sa.Text(), nullable=False),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "learner_hash", name=op.f("pk_erased_learners")),
    )
    op.create_index(op.f("ix_erased_learners_erased_at"), "erased_learners", ["erased_at"])
    op.create_table(
        "dirty_erasures",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("learner_hash", sa.Text(), nullable=False),
        sa.Column("erased_at", Moment(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "learner_hash", name=op.f("pk_dirty_erasures")),
    )
    newest = "FROM erasures GROUP BY account_id, learner_hash"
    op.execute(f"INSERT INTO erased_learners SELECT account_id, learner_hash, '', max(erased_at) {newest}")
    op.execute(f"INSERT INTO dirty_erasures SELECT account_id, learner_hash, max(erased_at) {newest}")


def downgrade() -> None:
    op.drop_table("replayed_records")
    op.drop_table("failed_work")
    op.drop_table("dirty_erasures")
    op.drop_table("erased_learners")
    op.drop_index("ix_course_sessions_states", "course_sessions")
    op.drop_index("ix_course_sessions_ends", "course_sessions")
    for name in ("stored_state", "ended_at", "end_due_at", "sequence", "metadata"):
        op.drop_column("course_sessions", name)
    op.drop_table("player_states")
