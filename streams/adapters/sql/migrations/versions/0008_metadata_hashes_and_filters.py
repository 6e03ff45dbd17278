"""Hashes of events, pairs of their metadata, and filters of webhooks."""

import sqlalchemy as sa
from alembic import op

from streams.adapters.sql.schema import Moment

revision = "0008.0005"
down_revision = "0007.0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
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
    )
    op.add_column("events", sa.Column("hash", sa.LargeBinary(), nullable=True))
    op.add_column("webhooks", sa.Column("filter", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("webhooks", "filter")
    op.drop_column("events", "hash")
    op.drop_table("event_metadata")
