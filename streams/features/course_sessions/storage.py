"""SCORM sessions in SQL: progress, commit URLs, what players store and events to send change in one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Select, bindparam, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.batches import Batches
from streams.adapters.sql.account_tables import accounts
from streams.adapters.sql.bulk_insert import Bulk
from streams.adapters.sql.course_session_tables import commit_urls, course_sessions
from streams.adapters.sql.database import Database
from streams.adapters.sql.dialects import insert
from streams.adapters.sql.outgoing_events import StoredEvents
from streams.features.course_sessions.changes import SessionChange, has_last_score
from streams.features.course_sessions.player_states import SqlPlayerStates
from streams.features.course_sessions.rows import to_row, to_session
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.ports import Codec, Encryption, EncryptionCheck, Telemetry

_MUTABLE_COLUMNS = (
    *("progress", "events", "sent_at", "sequence", "last_commit_at", "score_due_at"),
    *("closed_at", "end_due_at", "ended_at", "stored_state"),
)
_SESSIONS = Bulk(
    course_sessions,
    lambda new: new.on_conflict_do_update(
        index_elements=["account_id", "id"], set_={name: new.excluded[name] for name in _MUTABLE_COLUMNS}
    ),
)
ApplyCommit = Callable[[CourseSession, CommitUrl], SessionChange]
ChangeSession = Callable[[CourseSession], SessionChange]

MAX_COMMITS_PER_BATCH = 100
# A transaction costs more than the commits in it: under load they share one.
COMMIT_BATCH_WAIT_SECONDS = 0.01
# In one order, so that two processes do not wait for each other.
_SESSIONS_BY_TOKEN = (
    select(course_sessions, commit_urls.c.token_sha256, commit_urls.c.expires_at.label("url_expires_at"))
    .join_from(
        commit_urls,
        course_sessions,
        (course_sessions.c.account_id == commit_urls.c.account_id) & (course_sessions.c.id == commit_urls.c.session_id),
    )
    .where(commit_urls.c.token_sha256.in_(bindparam("tokens", expanding=True)))
    .order_by(course_sessions.c.account_id, course_sessions.c.id)
    .with_for_update(of=course_sessions)
)


class SqlCourseSessions:
    """`CourseSessions` in SQL. `codec` encodes the events to send, `encryption` hides what players store."""

    def __init__(
        self,
        database: Database,
        codec: Codec,
        telemetry: Telemetry,
        encryption: Encryption,
        keys: EncryptionCheck | None = None,
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self.states = SqlPlayerStates(database, encryption, telemetry, keys)
        self._events = StoredEvents(codec)
        self._commits = Batches(self._commit_all, MAX_COMMITS_PER_BATCH, COMMIT_BATCH_WAIT_SECONDS)

    async def open(
        self, launch_change: SessionChange, url: CommitUrl, check: Callable[[CourseSession], None]
    ) -> CourseSession:
        """Store a new session with its first URL; of a known session only the URL.

        `check` gets a known session, and raises what stops this.
        """
        new_session = launch_change.session
        insertion = insert(course_sessions).values(to_row(new_session)).on_conflict_do_nothing()
        async with self._database.transaction() as connection:
            while (await connection.execute(insertion.returning(course_sessions.c.id))).first() is None:
                existing = await _lock_session(connection, new_session.account_id, new_session.id)
                if existing is None:  # It was pruned in between.
                    continue
                check(existing)
                end = max(existing.expires_at, url.expires_at)
                # A session ends once.
                end_values = {"expires_at": end, "end_due_at": end if existing.ended_at is None else None}
                await connection.execute(update(course_sessions).where(_is_session(existing)).values(end_values))
                await connection.execute(insert(commit_urls).values(asdict(url)))
                return replace(existing, expires_at=end, end_due_at=end_values["end_due_at"])
            await connection.execute(insert(commit_urls).values(asdict(url)))
            await self._events.store(connection, launch_change.events)
        return new_session

    async def find(self, account_id: str, session_id: str) -> CourseSession | None:
        query = select(course_sessions).where(_has_id(account_id, session_id))
        row = await self._database.row(query)
        return to_session(row) if row else None

    async def close(self, account_id: str, session_id: str, close: ChangeSession) -> CourseSession | None:
        """Change an open session by `close`. A second time changes nothing."""
        async with self._database.transaction() as connection:
            existing = await _lock_session(connection, account_id, session_id)
            if existing is None or existing.closed_at is not None:
                return existing
            change = close(existing)
            await self._store(connection, [change])
        self._log_last_scores([change])
        return change.session

    async def commit(self, token_sha256: str, apply: ApplyCommit) -> bool:
        """Change a session by `apply`, one commit after the other. False when no URL has this token.

        What `apply` raises changes nothing.
        """
        return await self._commits.result((token_sha256, apply))

    async def _commit_all(self, commits: Sequence[tuple[str, ApplyCommit]]) -> Sequence[bool | Exception]:
        """Whether each token is known, or what its `apply` raised."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_SESSIONS_BY_TOKEN, {"tokens": [token for token, _ in commits]})).all()
            urls = {
                row.token_sha256: CommitUrl(row.token_sha256, row.account_id, row.id, row.url_expires_at)
                for row in rows
            }
            sessions = {(row.account_id, row.id): to_session(row) for row in rows}
            changes, results = _apply_all(commits, urls, sessions)
            await self._store(connection, changes)
        self._log_last_scores(changes)
        return results

    async def report_due(self, now: datetime, report: ChangeSession, limit: int) -> int:
        """Change sessions whose score is due by `report`, at most `limit`. Returns how many."""
        is_due = course_sessions.c.score_due_at <= now
        if await self._database.row(select(course_sessions.c.id).where(is_due).limit(1)) is None:
            return 0
        return await self._change(
            select(course_sessions).where(is_due).order_by(course_sessions.c.score_due_at), report, limit
        )

    async def end_due(self, last_account: str, now: datetime, end: ChangeSession, limit: int) -> str | None:
        """Change sessions whose end is due by `end`, at most `limit`: those of the next account behind `last_account`.

        Returns that account; None when none behind has such a session.
        """
        account_id: str | None = await self._database.scalar(_next_account_to_end(last_account, now))
        if account_id is not None:
            is_due = (course_sessions.c.account_id == account_id) & (course_sessions.c.end_due_at <= now)
            query = select(course_sessions).where(is_due).order_by(course_sessions.c.end_due_at)
            await self._change(query, end, limit)
        return account_id

    async def _change(self, query: Select[tuple[object, ...]], change: ChangeSession, limit: int) -> int:
        """Change the first sessions of a query. One that is locked has a commit, or an erasure."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(query.limit(limit).with_for_update(skip_locked=True))
            changes = [change(to_session(row)) for row in rows]
            await self._store(connection, changes)
        self._log_last_scores(changes)
        return len(changes)

    async def _store(self, connection: AsyncConnection, changes: Sequence[SessionChange]) -> None:
        """Store the newest row of each session, what its player stored last, and the events of all."""
        if not changes:
            return
        changed_sessions = {(change.session.account_id, change.session.id): change.session for change in changes}
        await _SESSIONS.run(connection, [to_row(session) for session in changed_sessions.values()])
        await self._events.store(connection, [event for change in changes for event in change.events])
        await self.states.store(connection, changes)

    def _log_last_scores(self, changes: Sequence[SessionChange]) -> None:
        for session in (change.session for change in changes if has_last_score(change)):
            self._telemetry.warning("session_scores_ended", account_id=session.account_id, session_id=session.id)


def _apply_all(
    commits: Sequence[tuple[str, ApplyCommit]],
    urls: Mapping[str, CommitUrl],
    sessions: Mapping[tuple[str, str], CourseSession],
) -> tuple[Sequence[SessionChange], Sequence[bool | Exception]]:
    """What changes, in the order of the commits, and the result of each."""
    newest_sessions, changes, results = dict(sessions), list[SessionChange](), list[bool | Exception]()
    for token, apply in commits:
        url = urls.get(token)
        if url is None:
            results.append(False)
            continue
        key = url.account_id, url.session_id
        try:
            change = apply(newest_sessions[key], url)
        except Exception as error:  # its caller gets it, and no other
            results.append(error)
            continue
        newest_sessions[key] = change.session
        changes.append(change)
        results.append(True)
    return changes, results


def _next_account_to_end(last_account: str, now: datetime) -> Select[tuple[str]]:
    """The next account behind `last_account` with a session to end: one look into the index for each account."""
    is_of_account = (course_sessions.c.account_id == accounts.c.id) & course_sessions.c.end_due_at.is_not(None)
    due_at = course_sessions.c.end_due_at
    first_due_at = select(due_at).where(is_of_account).order_by(due_at).limit(1).correlate(accounts).scalar_subquery()
    return (
        select(accounts.c.id).where(accounts.c.id > last_account, first_due_at <= now).order_by(accounts.c.id).limit(1)
    )


def _has_id(account_id: str, session_id: str) -> ColumnElement[bool]:
    return (course_sessions.c.account_id == account_id) & (course_sessions.c.id == session_id)


def _is_session(session: CourseSession) -> ColumnElement[bool]:
    return _has_id(session.account_id, session.id)


async def _lock_session(connection: AsyncConnection, account_id: str, session_id: str) -> CourseSession | None:
    query = select(course_sessions).where(_has_id(account_id, session_id)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return to_session(row) if row else None
