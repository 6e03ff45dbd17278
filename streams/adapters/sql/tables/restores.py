"""The table of the last restore of this database."""

from sqlalchemy import JSON as Json
from sqlalchemy import Column, Integer, Table, Text

from streams.adapters.sql.tables.types import Moment, metadata

# One row: its progress. A later dump contains it too, so `dump` and `since` identify the restore.
restores = Table(
    "restores",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("dump", Text, nullable=False),
    Column("since", Moment, nullable=False),
    Column("started_at", Moment, nullable=False),
    Column("last_step", Text, nullable=False),
    Column("counts", Json, nullable=False),
)
