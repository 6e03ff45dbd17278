"""A mail remembers who is yet to get it, and a job how far it is."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("mails", sa.Column("unreached", sa.JSON(), nullable=True))
    op.add_column("jobs", sa.Column("reached", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("reached")
    with op.batch_alter_table("mails") as mails:
        mails.drop_column("unreached")
