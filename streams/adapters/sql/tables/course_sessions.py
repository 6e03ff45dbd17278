"""Tables for SCORM sessions, their commit URLs, and their players' states."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Text, literal_column

from streams.adapters.sql.tables.types import Moment, metadata

# `progress` is JSON of `features.course_sessions.progress`, `events` of the newest events that a session has caused.
course_sessions = Table(
    "course_sessions",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("package_id", Text, nullable=False),
    Column("learner_id", Text, nullable=False),
    Column("dispatch_id", Text),
    Column("launched_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Column("progress", Text, nullable=False),
    Column("events", Text, nullable=False),
    # Orders its newest event among the events that wait to be produced.
    Column("sent_at", Moment),
    Column("last_commit_at", Moment),
    Column("closed_at", Moment),
    # When its newest score is reported. NULL while there is no score to report.
    Column("score_due_at", Moment),
    # JSON; NULL if there is none.
    Column("metadata", Text),
    # The sequence number of its newest event.
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    # When its last commit URL expires. NULL after its end was reported.
    Column("end_due_at", Moment),
    Column("ended_at", Moment),
    # Whether `player_states` has a row for it. NULL if the player's state is not stored.
    Column("stored_state", Text),
    Index(None, "account_id", "learner_id"),
)
Index(
    "ix_course_sessions_score_due_at",
    course_sessions.c.score_due_at,
    postgresql_where=course_sessions.c.score_due_at.is_not(None),
    sqlite_where=course_sessions.c.score_due_at.is_not(None),
)
# The next account with a session that must end, and its oldest ones.
Index(
    "ix_course_sessions_ends",
    course_sessions.c.account_id,
    course_sessions.c.end_due_at,
    postgresql_where=course_sessions.c.end_due_at.is_not(None),
    sqlite_where=course_sessions.c.end_due_at.is_not(None),
)

# The sessions with a stored state: few, however many a learner has opened. The learner's id fills most of an entry.
HAS_STATE = course_sessions.c.stored_state.in_((literal_column("'stored'"), literal_column("'too large'")))
Index(
    "ix_course_sessions_states",
    course_sessions.c.account_id,
    course_sessions.c.learner_id,
    course_sessions.c.package_id,
    postgresql_where=HAS_STATE,
    sqlite_where=HAS_STATE,
)

commit_urls = Table(
    "commit_urls",
    metadata,
    Column("token_sha256", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("expires_at", Moment, nullable=False, index=True),
    Index(None, "account_id", "session_id"),
)

# Stored separately from its session, which each commit reads: a state has up to 64 KiB.
player_states = Table(
    "player_states",
    metadata,
    Column("account_id", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("committed_at", Moment, nullable=False),
    Column("encrypted_state", Text, nullable=False),
    # The state's length, so that an index has the sum for an account.
    Column("state_bytes", Integer, nullable=False),
    Index(None, "account_id", "state_bytes"),
)
