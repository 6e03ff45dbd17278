"""Turns of accounts in mails and jobs, pauses in one mail, and scores that wait."""

import sqlalchemy as sa
from alembic import op

revision = "0005.0004"
down_revision = "0004.0003"
branch_labels = None
depends_on = None

IS_DUE = sa.text("due_at IS NOT NULL")
IS_UNFINISHED = sa.text("finished_at IS NULL")
WAITS = sa.text("score_due_at IS NOT NULL")


def upgrade() -> None:
    op.add_column("mails", sa.Column("others", sa.JSON(), nullable=True))
    op.add_column("mails", sa.Column("sent_with", sa.Text(), nullable=True))
    op.add_column("course_sessions", sa.Column("score_due_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_mails_turns", "mails", ["kind", "account_id", "due_at"], postgresql_where=IS_DUE, sqlite_where=IS_DUE
    )
    op.create_index(
        "ix_jobs_turns",
        "jobs",
        ["account_id", "created_at", "id"],
        postgresql_where=IS_UNFINISHED,
        sqlite_where=IS_UNFINISHED,
    )
    op.create_index(
        "ix_course_sessions_score_due_at",
        "course_sessions",
        ["score_due_at"],
        postgresql_where=WAITS,
        sqlite_where=WAITS,
    )


def downgrade() -> None:
    op.drop_index("ix_course_sessions_score_due_at", "course_sessions")
    op.drop_index("ix_jobs_turns", "jobs")
    op.drop_index("ix_mails_turns", "mails")
    op.drop_column("course_sessions", "score_due_at")
    op.drop_column("mails", "sent_with")
    op.drop_column("mails", "others")
