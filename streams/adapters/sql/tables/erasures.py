"""Tables for erasures. They contain no learner's id in clear text."""

from sqlalchemy import JSON as Json
from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text

from streams.adapters.sql.tables.types import Moment, metadata

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

# The newest erasure of each learner that a record on a topic may still name: the content of the topic `erasures`.
erased_learners = Table(
    "erased_learners",
    metadata,
    # After a restore, this may be an account that the database does not have.
    Column("account_id", Text, primary_key=True),
    Column("learner_hash", Text, primary_key=True),
    Column("hash_key_id", Text, nullable=False),
    Column("erased_at", Moment, nullable=False, index=True),
)

# The erasures that are not on the topic yet.
dirty_erasures = Table(
    "dirty_erasures",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("learner_hash", Text, primary_key=True),
    Column("erased_at", Moment, nullable=False),
)

# Keys of the hashes of learners, encrypted. The first row is this database's own. The others belong to the database
# that this one was restored over: without them, the erasures since the dump would be forgotten.
learner_hash_key = Table(
    "learner_hash_key",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("ciphertext", Text, nullable=False),
)
