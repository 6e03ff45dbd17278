"""One-time links, sign-ins that wait for a provider, and sessions in SQL."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, insert, select, update

from streams.adapters.batches import Batches
from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.engine.database import Database, SqlStorage
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.accounts import mails, pending_sign_ins, sessions, sign_ins, users
from streams.core.accounts.access import Role
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.mail import Mail
from streams.core.accounts.oidc import PendingSignIn
from streams.core.accounts.session import IDLE_TIMEOUT, LINK_LIFETIME, Session, SignIn
from streams.core.limits import MAX_SESSIONS_LISTED
from streams.core.queues.request_class import RequestClass

SESSIONS_PER_QUERY = 500


class SqlSignIns(SqlStorage):
    """`SignIns` in SQL. A mailed sign-in has a code."""

    async def add(self, sign_in: SignIn, *, mail: Mail | None = None, audit_entry: AuditEntry | None = None) -> None:
        """Store a sign-in, with the mail that brings it to its person."""
        async with self._database.transaction() as connection:
            await connection.execute(insert(sign_ins).values(asdict(sign_in)))
            if mail is not None:
                await connection.execute(insert(mails).values(asdict(mail)))
            await write_entry(connection, audit_entry)

    async def add_with_mail(self, sign_in: SignIn, mail: Mail, max_usable_sign_ins: int) -> bool:
        """Store a sign-in with its mail, unless this many sign-ins mailed to the address are still usable.

        Requests for one address wait for each other, because they count each other's mails.
        """
        async with self._database.transaction() as connection:
            is_of_address = users.c.email == sign_in.email
            await connection.execute(select(users.c.id).where(is_of_address).order_by(users.c.id).with_for_update())
            open_mails = await connection.scalar(_select_open_mail_count(sign_in.email or "", sign_in.created_at))
            if (open_mails or 0) >= max_usable_sign_ins:
                return False
            await connection.execute(insert(sign_ins).values(asdict(sign_in)))
            await connection.execute(insert(mails).values(asdict(mail)))
            return True

    async def count_usable_sign_ins(self, email: str, now: datetime) -> int:
        """How many sign-ins were mailed to an address and are still usable."""
        return int(await self._database.scalar(_select_open_mail_count(email, now)))

    async def find(self, sha256: str, now: datetime) -> SignIn | None:
        """Find a link that is still usable."""
        row = await self._database.row(select(sign_ins).where(_is_usable(sha256, now)))
        return _sign_in(row) if row else None

    async def redeem(self, sha256: str, now: datetime) -> SignIn | None:
        """Use a link; None if it is unknown, used or expired. Only one of two callers gets it."""
        # Read first, which takes no write lock: anybody can send made-up tokens.
        if await self.find(sha256, now) is None:
            return None
        # One statement: if two requests use one link, only one changes the row.
        statement = update(sign_ins).where(_is_usable(sha256, now)).values(used_at=now).returning(sign_ins)
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).one_or_none()
            return _sign_in(row) if row else None

    async def guess(self, browser_sha256: str, code_sha256: str, now: datetime) -> SignIn | None:
        """Use the browser's newest code; None if it is wrong, used or expired. Each call costs a guess."""
        is_of_browser = (sign_ins.c.browser_sha256 == browser_sha256) & sign_ins.c.used_at.is_(None)
        is_valid = is_of_browser & (sign_ins.c.expires_at > now) & (sign_ins.c.guesses_left > 0)
        if await self._database.row(select(sign_ins.c.sha256).where(is_valid)) is None:
            return None
        statement = (
            update(sign_ins).where(is_valid).values(guesses_left=sign_ins.c.guesses_left - 1).returning(sign_ins)
        )
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).one_or_none()
            if row is None or row.code_sha256 != code_sha256:
                return None
            await connection.execute(update(sign_ins).where(sign_ins.c.sha256 == row.sha256).values(used_at=now))
            return _sign_in(row)


def _select_open_mail_count(email: str, now: datetime) -> Select[int]:
    is_mailed = (sign_ins.c.email == email) & sign_ins.c.code_sha256.is_not(None)
    # Compare the creation time, because of the index.
    is_open = (sign_ins.c.created_at > now - LINK_LIFETIME) & sign_ins.c.used_at.is_(None)
    return select(func.count()).where(is_mailed & is_open)


class SqlPendingSignIns(SqlStorage):
    """`PendingSignIns` in SQL."""

    async def add(self, pending: PendingSignIn) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(insert(pending_sign_ins).values(asdict(pending)))

    async def take(self, state_sha256: str, browser_sha256: str, now: datetime) -> PendingSignIn | None:
        """Use a sign-in; None if it is unknown, used, expired, or of another browser. One of two callers gets it."""
        columns = pending_sign_ins.c
        condition = (columns.state_sha256 == state_sha256) & (columns.browser_sha256 == browser_sha256)
        # One statement: if two requests use one state, only one deletes the row.
        statement = delete(pending_sign_ins).where(condition & (columns.expires_at > now)).returning(pending_sign_ins)
        async with self._database.transaction() as connection:
            row = (await connection.execute(statement)).one_or_none()
            return PendingSignIn(**row._mapping) if row else None


class SqlSessions(SqlStorage):
    """`Sessions` in SQL. All look-ups share one connection, so that unknown browsers cannot take the others."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._look_ups = Batches(self._find_all, SESSIONS_PER_QUERY, request_class=RequestClass.PEOPLE)

    async def add(self, session: Session, sha256: str, audit_entry: AuditEntry | None = None) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(insert(sessions).values(**asdict(session), sha256=sha256))
            await write_entry(connection, audit_entry)

    async def find(self, sha256: str) -> Session | None:
        """Find a session, with the role that its user has now."""
        return await self._look_ups.submit(sha256)

    async def _find_all(self, hashes: Sequence[str]) -> Sequence[Session | None]:
        query = _SESSIONS.where(sessions.c.sha256.in_(set(hashes)))
        rows = {row.sha256: _session(row) for row in await self._database.rows(query)}
        return [rows.get(sha256) for sha256 in hashes]

    async def list(self, account_id: str, now: datetime) -> Sequence[Session]:
        """The sessions that are valid at this time, newest first, at most `MAX_SESSIONS_LISTED`."""
        is_valid = (sessions.c.expires_at > now) & (sessions.c.used_at > now - IDLE_TIMEOUT)
        query = _SESSIONS.where(sessions.c.account_id == account_id, is_valid)
        query = query.order_by(sessions.c.created_at.desc(), sessions.c.id.desc()).limit(MAX_SESSIONS_LISTED)
        return [_session(row) for row in await self._database.rows(query)]

    async def change(self, session: Session, audit_entry: AuditEntry | None = None) -> None:
        """Store the account, the user and the role of a session."""
        values = {name: getattr(session, name) for name in ("actor", "account_id", "role", "user_id")}
        async with self._database.transaction() as connection:
            await connection.execute(update(sessions).where(sessions.c.id == session.id).values(values))
            await write_entry(connection, audit_entry)

    async def touch(self, session_id: str, at: datetime) -> None:
        """Note the last use of a session."""
        async with self._database.transaction() as connection:
            await connection.execute(update(sessions).where(sessions.c.id == session_id).values(used_at=at))

    async def remove(self, session_id: str, account_id: str | None, audit_entry: AuditEntry | None = None) -> bool:
        """End a session; with `account_id`, only a session of that account."""
        condition = sessions.c.id == session_id
        if account_id is not None:
            condition &= sessions.c.account_id == account_id
        async with self._database.transaction() as connection:
            is_removed = (
                await connection.execute(delete(sessions).where(condition).returning(sessions.c.id))
            ).first() is not None
            if is_removed:
                await write_entry(connection, audit_entry)
            return is_removed


# The role of a user now, not at the time of the sign-in.
_SESSIONS = select(
    *(column for column in sessions.columns if column.name != "role"),
    func.coalesce(users.c.role, sessions.c.role).label("role"),
).outerjoin(users, users.c.id == sessions.c.user_id)


def _session(row: Any) -> Session:
    return to_value(Session, row, role=Role(row.role) if row.role else None, account_ids=tuple(row.account_ids))


def _is_usable(sha256: str, now: datetime) -> ColumnElement[bool]:
    return (sign_ins.c.sha256 == sha256) & sign_ins.c.used_at.is_(None) & (sign_ins.c.expires_at > now)


def _sign_in(row: Any) -> SignIn:
    return to_value(SignIn, row, role=Role(row.role) if row.role else None)
