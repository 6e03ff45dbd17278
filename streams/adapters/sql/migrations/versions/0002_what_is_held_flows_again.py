"""Pauses with what was decided for what they hold, and what it takes to send a held delivery on."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

HELD = sa.text("state = 'held'")
UNDER_WAY = sa.text("state = 'waiting' AND tier IS NULL AND step > 1")


def upgrade() -> None:
    op.create_table(
        "pauses",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("began_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("choice", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pauses")),
    )
    op.create_index(op.f("ix_pauses_webhook_id"), "pauses", ["webhook_id"])
    # Pauses that last already have no row yet.
    op.execute(
        "INSERT INTO pauses (id, webhook_id, reason, began_at) "
        "SELECT pause_id, id, pause_reason, paused_at FROM webhooks WHERE pause_id IS NOT NULL"
    )
    op.add_column("bodies", sa.Column("trace_parent", sa.Text(), nullable=True))
    op.add_column("deliveries", sa.Column("target_attempt", sa.Integer(), server_default=sa.text("1"), nullable=False))
    # Before, nobody counted a primary endpoint's attempts apart; for what is held they are all of them.
    op.execute("UPDATE deliveries SET target_attempt = attempts + 1")
    for name, columns, where in (
        ("ix_deliveries_held", ["webhook_id", "first_seen_at"], HELD),
        ("ix_deliveries_under_way", ["webhook_id"], UNDER_WAY),
    ):
        op.create_index(name, "deliveries", columns, postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    op.drop_index("ix_deliveries_under_way", "deliveries")
    op.drop_index("ix_deliveries_held", "deliveries")
    op.drop_column("deliveries", "target_attempt")
    op.drop_column("bodies", "trace_parent")
    op.drop_index(op.f("ix_pauses_webhook_id"), "pauses")
    op.drop_table("pauses")
