"""SCORM sessions in SQL: progress, commit URLs, player states and events to send change in one transaction."""

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime

from sqlalchemy import ColumnElement, Select, bindparam, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.batches import Batches
from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.course_sessions import commit_urls, course_sessions
from streams.core.errors import ROW_ERRORS
from streams.core.failed_work import FailedRows, put_aside
from streams.core.queues.request_class import RequestClass
from streams.features.course_sessions.changes import SessionChange, has_last_score
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.player_states import DEFAULT_MAX_BYTES, SqlPlayerStates
from streams.features.course_sessions.rows import to_row, to_session
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.ports.delivery import Encryption, EncryptionCheck
from streams.ports.kafka import Codec
from streams.ports.runtime import Telemetry

_MUTABLE_COLUMNS = (
    *("progress", "events", "sent_at", "sequence", "last_commit_at", "score_due_at"),
    *("closed_at", "end_due_at", "ended_at", "stored_state"),
)
_SESSIONS = BulkInsert(
    course_sessions,
    lambda new: new.on_conflict_do_update(
        index_elements=["account_id", "id"], set_={name: new.excluded[name] for name in _MUTABLE_COLUMNS}
    ),
)
ApplyCommit = Callable[[CourseSession, CommitUrl], SessionChange]
ChangeSession = Callable[[CourseSession], SessionChange]

MAX_COMMITS_PER_BATCH = 100
TOKENS_PER_QUERY = 500
# 0.2 KB each.
MAX_KNOWN_TOKENS = 20_000
# A transaction costs more than the commits in it, so under load they share one.
COMMIT_BATCH_WAIT_SECONDS = 0.01
# Always in the same order, so that two processes do not wait for each other.
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
    """`CourseSessions` in SQL. `codec` encodes the events to send, `encryption` encrypts the states of players."""

    def __init__(
        self,
        database: Database,
        codec: Codec,
        telemetry: Telemetry,
        encryption: Encryption,
        keys: EncryptionCheck | None = None,
        max_state_bytes: int = DEFAULT_MAX_BYTES,
    ) -> None:
        self._database = database
        self._telemetry = telemetry
        self.states = SqlPlayerStates(database, encryption, telemetry, keys, max_state_bytes)
        self._events = OutgoingEventWriter(codec)
        self._commits = Batches(
            self._commit_together, MAX_COMMITS_PER_BATCH, COMMIT_BATCH_WAIT_SECONDS, RequestClass.COMMIT
        )
        self._accounts = Batches(self._find_accounts, TOKENS_PER_QUERY, request_class=RequestClass.COMMIT)
        # By hash of a token. A URL never changes its account.
        self._known_accounts: OrderedDict[str, str] = OrderedDict()

    async def open(
        self, launch_change: SessionChange, url: CommitUrl, check: Callable[[CourseSession], None]
    ) -> CourseSession:
        """Store a new session with its first URL; of an existing session, only the URL.

        `check` gets the existing session, and raises if it may not be opened.
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

    async def close(self, account_id: str, session_id: str, change_session: ChangeSession) -> CourseSession | None:
        """Change an open session by `change_session`. A second call changes nothing."""
        async with self._database.transaction() as connection:
            existing = await _lock_session(connection, account_id, session_id)
            if existing is None or existing.closed_at is not None:
                return existing
            change = change_session(existing)
            await self._store(connection, [change])
        self._log_last_scores([change])
        return change.session

    async def account_of(self, token_sha256: str) -> str | None:
        """The account of a commit URL; None if no URL has this token."""
        account_id = self._known_accounts.get(token_sha256) or await self._accounts.submit(token_sha256)
        if account_id is not None:
            self._remember_account(token_sha256, account_id)
        return account_id

    async def _find_accounts(self, tokens: Sequence[str]) -> Sequence[str | None]:
        columns = commit_urls.c
        query = select(columns.token_sha256, columns.account_id).where(columns.token_sha256.in_(set(tokens)))
        accounts_by_token = {row.token_sha256: row.account_id for row in await self._database.rows(query)}
        return [accounts_by_token.get(token) for token in tokens]

    def _remember_account(self, token_sha256: str, account_id: str) -> None:
        self._known_accounts[token_sha256] = account_id
        self._known_accounts.move_to_end(token_sha256)
        if len(self._known_accounts) > MAX_KNOWN_TOKENS:
            self._known_accounts.popitem(last=False)

    async def commit(self, token_sha256: str, apply: ApplyCommit) -> bool:
        """Change a session by `apply`, one commit after the other. False if no URL has this token.

        Accounts take turns. If `apply` raises, nothing is changed.
        """
        return await self._commits.submit((token_sha256, apply), self._known_accounts.get(token_sha256, ""))

    async def _commit_together(self, commits: Sequence[tuple[str, ApplyCommit]]) -> Sequence[bool | Exception]:
        """Whether each token is known, or the error that its commit raised."""
        async with self._database.transaction() as connection:
            rows = (await connection.execute(_SESSIONS_BY_TOKEN, {"tokens": [token for token, _ in commits]})).all()
            urls = {
                row.token_sha256: CommitUrl(row.token_sha256, row.account_id, row.id, row.url_expires_at)
                for row in rows
            }
            sessions = {(row.account_id, row.id): to_session(row) for row in rows}
            without_state = {key for key, session in sessions.items() if session.stored_state is StoreResult.NOTHING}
            full_accounts = await self.states.full_accounts(connection, {account_id for account_id, _ in without_state})
            for key in (key for key in without_state if key[0] in full_accounts):
                # It replaces an existing state of the learner. A further state would exceed the limit: it is not kept.
                if not await self.states.has_state(connection, sessions[key]):
                    sessions[key] = replace(sessions[key], stored_state=None)
            changes, results = _apply_all(commits, urls, sessions)
            await self._store(connection, changes)
        self._log_last_scores(changes)
        return results

    async def report_due(
        self,
        now: datetime,
        report: ChangeSession,
        limit: int,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> int:
        """Change sessions whose score is due by `report`, at most `limit`. Returns how many.

        The `excluded` sessions, and the ids of failed ones, are `account/session`.
        """
        is_due = (course_sessions.c.score_due_at <= now) & _is_none_of(excluded)
        if await self._database.row(select(course_sessions.c.id).where(is_due).limit(1)) is None:
            return 0
        query = select(course_sessions).where(is_due).order_by(course_sessions.c.score_due_at)
        return await self._change(query, report, limit, failed_rows)

    async def end_due(
        self,
        last_account: str,
        now: datetime,
        end: ChangeSession,
        limit: int,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> str | None:
        """Change sessions whose end is due by `end`, at most `limit`, of the next account after `last_account`.

        Returns that account; None if no later account has such a session.
        """
        account_id: str | None = await self._database.scalar(
            _select_next_account_with_due_session(last_account, now, excluded)
        )
        if account_id is not None:
            is_due = (course_sessions.c.account_id == account_id) & (course_sessions.c.end_due_at <= now)
            query = select(course_sessions).where(is_due & _is_none_of(excluded)).order_by(course_sessions.c.end_due_at)
            await self._change(query, end, limit, failed_rows)
        return account_id

    async def _change(
        self, query: Select[tuple[object, ...]], change: ChangeSession, limit: int, failed_rows: FailedRows
    ) -> int:
        """Change the first sessions of a query: all in one transaction, or each in its own if one of them fails."""
        try:
            return await self._change_all(query.limit(limit), change)
        except ROW_ERRORS:
            columns = course_sessions.c
            keys = await self._database.rows(query.with_only_columns(columns.account_id, columns.id).limit(limit))
        count = 0
        for account_id, session_id in keys:
            try:
                count += await self._change_all(query.where(_has_id(account_id, session_id)), change)
            except ROW_ERRORS as error:
                put_aside(failed_rows, f"{account_id}/{session_id}", account_id, error)
        return count

    async def _change_all(self, query: Select[tuple[object, ...]], change: ChangeSession) -> int:
        """Change the sessions of a query. A locked session has a commit or an erasure in progress, and is skipped."""
        async with self._database.transaction() as connection:
            rows = await connection.execute(query.with_for_update(skip_locked=True))
            changes = [change(to_session(row)) for row in rows]
            await self._store(connection, changes)
        self._log_last_scores(changes)
        return len(changes)

    async def _store(self, connection: AsyncConnection, changes: Sequence[SessionChange]) -> None:
        """Store each session's newest row and latest player state, and the events of all."""
        if not changes:
            return
        changed_sessions = {(change.session.account_id, change.session.id): change.session for change in changes}
        await _SESSIONS.execute(connection, [to_row(session) for session in changed_sessions.values()])
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
    """The changes, in the order of the commits, and the result of each commit."""
    newest_sessions, changes, results = dict(sessions), list[SessionChange](), list[bool | Exception]()
    for token, apply in commits:
        url = urls.get(token)
        if url is None:
            results.append(False)
            continue
        key = url.account_id, url.session_id
        try:
            change = apply(newest_sessions[key], url)
        except Exception as error:  # only its own caller gets it
            results.append(error)
            continue
        newest_sessions[key] = change.session
        changes.append(change)
        results.append(True)
    return changes, results


def _select_next_account_with_due_session(
    last_account: str, now: datetime, excluded: Collection[str]
) -> Select[tuple[str]]:
    """The next account after `last_account` with a session to end: one index look-up for each account."""
    is_of_account = (course_sessions.c.account_id == accounts.c.id) & course_sessions.c.end_due_at.is_not(None)
    is_of_account &= _is_none_of(excluded)
    due_at = course_sessions.c.end_due_at
    first_due_at = select(due_at).where(is_of_account).order_by(due_at).limit(1).correlate(accounts).scalar_subquery()
    return (
        select(accounts.c.id).where(accounts.c.id > last_account, first_due_at <= now).order_by(accounts.c.id).limit(1)
    )


def _is_none_of(names: Collection[str]) -> ColumnElement[bool]:
    """Whether a session is not among these `account/session` names."""
    return (course_sessions.c.account_id + "/" + course_sessions.c.id).not_in(names) if names else true()


def _has_id(account_id: str, session_id: str) -> ColumnElement[bool]:
    return (course_sessions.c.account_id == account_id) & (course_sessions.c.id == session_id)


def _is_session(session: CourseSession) -> ColumnElement[bool]:
    return _has_id(session.account_id, session.id)


async def _lock_session(connection: AsyncConnection, account_id: str, session_id: str) -> CourseSession | None:
    query = select(course_sessions).where(_has_id(account_id, session_id)).with_for_update()
    row = (await connection.execute(query)).one_or_none()
    return to_session(row) if row else None
