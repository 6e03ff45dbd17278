"""Alembic's environment: our tables, on the connection of `migrate`."""

from alembic import context

from streams.adapters.sql.tables import (  # noqa: F401 (the import declares them)
    accounts,
    course_sessions,
    deliveries,
    erasures,
    restores,
    usage,
)
from streams.adapters.sql.tables.types import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
