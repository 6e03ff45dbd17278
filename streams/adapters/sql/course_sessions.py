"""SCORM sessions in SQL: progress, commit URLs and the events to send change in one transaction."""

from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.course_session_tables import commit_urls, course_sessions
from streams.adapters.sql.database import Database
from streams.adapters.sql.outgoing_events import StoredEvents
from streams.core.course_progress import Progress
from streams.core.course_session import Change, CommitUrl, CourseSession, SessionEvent
from streams.ports import Codec

_PROGRESS = TypeAdapter(Progress)
_EVENTS = TypeAdapter(tuple[SessionEvent, ...])

_PLAIN = [column.name for column in course_sessions.c if column.name not in ("progress", "events")]
_COMMITTED = ("progress", "events", "sent_at", "last_commit_at")
_OF_URL = (
    select(course_sessions, commit_urls.c.expires_at.label("url_expires_at"))
    .join_from(
        commit_urls,
        course_sessions,
        (course_sessions.c.account_id == commit_urls.c.account_id) & (course_sessions.c.id == commit_urls.c.session_id),
    )
    .where(commit_urls.c.token_sha256 == bindparam("token"))
    .with_for_update(of=course_sessions)
)
_UPDATE = (
    update(course_sessions)
    .where(course_sessions.c.account_id == bindparam("of_account"), course_sessions.c.id == bindparam("of_session"))
    .values({name: bindparam(name) for name in _COMMITTED})
)


class SqlCourseSessions:
    """`CourseSessions` in SQL. `codec` encodes the events to send."""

    def __init__(self, database: Database, codec: Codec) -> None:
        self._database = database
        self._events = StoredEvents(codec, is_sqlite=database.is_sqlite)
        self._insert = sqlite_insert if database.is_sqlite else postgres_insert

    async def open(self, launched: Change, url: CommitUrl, check: Callable[[CourseSession], None]) -> CourseSession:
        new = launched.session
        added = self._insert(course_sessions).values(_row(new)).on_conflict_do_nothing()
        async with self._database.transaction() as connection:
            while (await connection.execute(added.returning(course_sessions.c.id))).first() is None:
                known = await _locked(connection, new.account_id, new.id)
                if known is None:  # It was pruned in between.
                    continue
                check(known)
                until = max(known.expires_at, url.expires_at)
                await connection.execute(update(course_sessions).where(_this(known)).values(expires_at=until))
                await connection.execute(insert(commit_urls).values(asdict(url)))
                return replace(known, expires_at=until)
            await connection.execute(insert(commit_urls).values(asdict(url)))
            await self._events.store(connection, launched.events)
        return new

    async def find(self, account_id: str, session_id: str) -> CourseSession | None:
        query = select(course_sessions).where(_named(account_id, session_id))
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
            return _session(row) if row else None

    async def close(self, account_id: str, session_id: str, now: datetime) -> CourseSession | None:
        async with self._database.transaction() as connection:
            known = await _locked(connection, account_id, session_id)
            if known is None or known.closed_at is not None:
                return known
            await connection.execute(update(course_sessions).where(_this(known)).values(closed_at=now))
            return replace(known, closed_at=now)

    async def commit(self, token_sha256: str, apply: Callable[[CourseSession, CommitUrl], Change]) -> bool:
        async with self._database.transaction() as connection:
            row = (await connection.execute(_OF_URL, {"token": token_sha256})).one_or_none()
            if row is None:
                return False
            before = _session(row)
            change = apply(before, CommitUrl(token_sha256, row.account_id, row.id, row.url_expires_at))
            row_after = _row(change.session)
            await connection.execute(
                _UPDATE,
                {
                    "of_account": before.account_id,
                    "of_session": before.id,
                    **{name: row_after[name] for name in _COMMITTED},
                },
            )
            await self._events.store(connection, change.events)
            return True


def _named(account_id: str, session_id: str) -> ColumnElement[bool]:
    return (course_sessions.c.account_id == account_id) & (course_sessions.c.id == session_id)


def _this(session: CourseSession) -> ColumnElement[bool]:
    return _named(session.account_id, session.id)


async def _locked(connection: AsyncConnection, account_id: str, session_id: str) -> CourseSession | None:
    query = select(course_sessions).where(_named(account_id, session_id)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return _session(row) if row else None


def _row(session: CourseSession) -> dict[str, Any]:
    return {
        **{name: getattr(session, name) for name in _PLAIN},
        "progress": _PROGRESS.dump_json(session.progress).decode(),
        "events": _EVENTS.dump_json(session.events).decode(),
    }


def _session(row: Any) -> CourseSession:
    return CourseSession(
        **{name: getattr(row, name) for name in _PLAIN},
        progress=_PROGRESS.validate_json(row.progress),
        events=_EVENTS.validate_json(row.events),
    )
