"""The address that a session's person proved to have. Open sessions have none: they choose no other account."""

import sqlalchemy as sa
from alembic import op

revision = "0003.0002"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("proved_email", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "proved_email")
