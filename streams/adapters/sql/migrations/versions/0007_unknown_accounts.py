"""The last accounts that events named and that do not exist. Older processes do not use the table."""

import sqlalchemy as sa
from alembic import op

revision = "0007.0005"
down_revision = "0006.0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "unknown_accounts",
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_unknown_accounts")),
    )


def downgrade() -> None:
    op.drop_table("unknown_accounts")
