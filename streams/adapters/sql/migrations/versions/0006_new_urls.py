"""When a webhook got its present URL. It is empty for webhooks that have their first one."""

import sqlalchemy as sa
from alembic import op

revision = "0006.0005"
down_revision = "0005.0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("webhooks", sa.Column("url_changed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("webhooks", "url_changed_at")
