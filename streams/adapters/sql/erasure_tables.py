"""Tables of erasures. No learner's id is in them in clear."""

from sqlalchemy import JSON as Json
from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text

from streams.adapters.sql.schema import Moment, metadata

# Each request to erase a learner, with its progress: the step, and the place within it.
erasures = Table(
    "erasures",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("accounts.id"), nullable=False),
    Column("learner_hash", Text, nullable=False),
    # Older data of the learner is erased, whenever it arrives.
    Column("erased_at", Moment, nullable=False, index=True),
    Column("created_at", Moment, nullable=False),
    Column("actor", Text, nullable=False),
    Column("counts", Json, nullable=False),
    Column("step", Text),
    Column("place", Json(none_as_null=True)),
    # NULL once the erasure is finished.
    Column("encrypted_learner", Text),
    Column("finished_at", Moment),
    Index(None, "account_id", "learner_hash"),
)
Index(
    "ix_erasures_unfinished",
    erasures.c.created_at,
    postgresql_where=erasures.c.finished_at.is_(None),
    sqlite_where=erasures.c.finished_at.is_(None),
)

# One row: the key of the hashes of learners, encrypted. It never changes, or old erasures would be forgotten.
learner_hash_key = Table(
    "learner_hash_key",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ciphertext", Text, nullable=False),
)
