"""The states that players store, in SQL, encrypted: one row for a session."""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.tables.course_sessions import HAS_STATE, course_sessions, player_states
from streams.core.errors import InvalidRecord
from streams.features.course_sessions.changes import SessionChange
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.rows import to_session
from streams.features.course_sessions.session import CourseSession
from streams.ports.delivery import Encryption, EncryptionCheck
from streams.ports.runtime import Telemetry

OLDER_STATES_AT_ONCE = 100
DEFAULT_MAX_BYTES = 1024**3
# The sum reads an index with an entry for each state of the account.
TOTAL_SECONDS = 10.0
MAX_REMEMBERED_ACCOUNTS = 10_000
_STATES = BulkInsert(
    player_states,
    lambda new: new.on_conflict_do_update(
        index_elements=["account_id", "session_id"],
        set_={name: new.excluded[name] for name in ("committed_at", "encrypted_state", "state_bytes")},
    ),
)


class SqlPlayerStates:
    """The states of players, which are deleted with their sessions."""

    def __init__(
        self,
        database: Database,
        encryption: Encryption,
        telemetry: Telemetry,
        keys: EncryptionCheck | None = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes = max_bytes
        self._now = now
        # By account: whether its states are at the limit, and until when this is not queried again.
        self._is_full: dict[str, tuple[bool, float]] = {}
        self._database = database
        self._encryption = encryption
        self._telemetry = telemetry
        self._keys = keys

    async def newest(self, account_id: str, learner_id: str, package_id: str) -> tuple[CourseSession, str] | None:
        """The last state of a learner's player in a package, with its session. Deletes older states.

        Raises `WrongKeys` if this process has the wrong encryption keys: other processes can read the state.
        """
        is_same_course = (
            (course_sessions.c.account_id == account_id)
            & (course_sessions.c.learner_id == learner_id)
            & (course_sessions.c.package_id == package_id)
            & HAS_STATE
        )
        states = player_states.c
        is_same_session = (states.account_id == course_sessions.c.account_id) & (
            states.session_id == course_sessions.c.id
        )
        query = select(course_sessions, states.committed_at, states.encrypted_state).join(
            player_states, is_same_session
        )
        rows = await self._database.rows(query.where(is_same_course).order_by(states.committed_at.desc()).limit(2))
        if not rows:
            return None
        try:
            state = self._encryption.decrypt(rows[0].encrypted_state)
        except InvalidRecord:
            if self._keys is not None:
                await self._keys.require_right_keys()
            # The key that it was encrypted with was removed: the course begins at its start.
            self._telemetry.warning("player_state_not_decrypted", account_id=account_id, session_id=rows[0].id)
            return None
        if len(rows) > 1:
            await self._delete_older(is_same_course, rows[0])
        return to_session(rows[0]), state

    async def _delete_older(self, is_theirs: ColumnElement[bool], newest: Any) -> None:
        """Delete the older states of these sessions. A locked session has a commit in progress, and keeps its state."""
        sessions, states = course_sessions.c, player_states.c
        lock = select(sessions.id).where(is_theirs, sessions.id != newest.id).limit(OLDER_STATES_AT_ONCE)
        async with self._database.transaction() as connection:
            ids = (await connection.scalars(lock.with_for_update(skip_locked=True))).all()
            is_older = (states.account_id == newest.account_id) & states.session_id.in_(ids)
            deletion = delete(player_states).where(is_older, states.committed_at < newest.committed_at)
            deleted_ids = (await connection.scalars(deletion.returning(states.session_id))).all()
            is_deleted = (sessions.account_id == newest.account_id) & sessions.id.in_(deleted_ids)
            nothing = {"stored_state": StoreResult.NOTHING.value}
            await connection.execute(update(course_sessions).where(is_deleted).values(nothing))

    async def total_bytes(self, account_id: str) -> int:
        """The size of all stored states of an account."""
        return await total_state_bytes(self._database, account_id)

    async def full_accounts(self, connection: AsyncConnection, account_ids: Iterable[str]) -> Collection[str]:
        """The accounts among these whose states have `max_bytes` or more. Each is queried once in some seconds."""
        full_accounts = set()
        for account_id in account_ids:
            is_full, asked_until = self._is_full.get(account_id, (False, 0.0))
            if self._now() >= asked_until:
                is_full = int(await connection.scalar(_select_total(account_id)) or 0) >= self.max_bytes
                if len(self._is_full) >= MAX_REMEMBERED_ACCOUNTS:
                    self._is_full.clear()
                self._is_full[account_id] = is_full, self._now() + TOTAL_SECONDS
            if is_full:
                full_accounts.add(account_id)
        return full_accounts

    async def has_state(self, connection: AsyncConnection, session: CourseSession) -> bool:
        """Whether a state of the session's learner in its package is stored."""
        columns = course_sessions.c
        is_of_learner = (columns.account_id == session.account_id) & (columns.learner_id == session.learner_id)
        query = select(columns.id).where(is_of_learner, columns.package_id == session.package_id, HAS_STATE).limit(1)
        return (await connection.scalar(query)) is not None

    async def is_full(self, account_id: str) -> bool:
        """Whether the account may store no further state."""
        async with self._database.read_transaction() as connection:
            return account_id in await self.full_accounts(connection, [account_id])

    async def store(self, connection: AsyncConnection, changes: Sequence[SessionChange]) -> None:
        """Store the last state of each session, in the transaction of their changes."""
        newest = {(item.session.account_id, item.session.id): item for item in changes if item.state is not None}
        if newest:
            await _STATES.execute(connection, [self._row(change) for change in newest.values()])

    def _row(self, change: SessionChange) -> dict[str, object]:
        session, encrypted_state = change.session, self._encryption.encrypt(change.state or "")
        return {
            "account_id": session.account_id,
            "session_id": session.id,
            "committed_at": session.last_commit_at,
            "encrypted_state": encrypted_state,
            "state_bytes": len(encrypted_state),
        }


async def total_state_bytes(database: Database, account_id: str) -> int:
    """The size of all stored states of an account's players."""
    return int(await database.scalar(_select_total(account_id)) or 0)


def _select_total(account_id: str) -> Select[int]:
    return select(func.sum(player_states.c.state_bytes)).where(player_states.c.account_id == account_id)
