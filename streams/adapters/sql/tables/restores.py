"""The table of the last restore of this database."""

from sqlalchemy import JSON as Json
from sqlalchemy import Column, Integer, Table, Text

from streams.adapters.sql.tables.types import Moment, metadata

# One row: how far it came. A dump that was made later has it too, so `dump` and `since` say which restore it was.
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
