"""Launches of a month that was closed, by the month of their arrival. Older processes count none."""

import sqlalchemy as sa
from alembic import op

revision = "0004.0003"
down_revision = "0003.0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "usage_months", sa.Column("late_launches", sa.BigInteger(), server_default=sa.text("0"), nullable=False)
    )


def downgrade() -> None:
    op.drop_column("usage_months", "late_launches")
