"""Sessions of signed-in people: read, move to another account, end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from streams.core.accounts.access import Role, digest
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.session import USE_UPDATE_INTERVAL, Session, SignInMethod
from streams.core.errors import Forbidden, NotFound, Unauthorized
from streams.features.shared.accounts import SqlAccounts, SqlUsers
from streams.features.shared.audit_trail import new_entry
from streams.features.sign_in.storage import SqlSessions
from streams.ports.runtime import Clock


@dataclass
class SessionService:
    _accounts: SqlAccounts
    _users: SqlUsers
    _sessions: SqlSessions
    _clock: Clock

    async def find(self, token: str) -> Session:
        """The session of a browser. Raises `Unauthorized`."""
        now = self._clock.now()
        session = await self._sessions.find(digest(token))
        if session is None or not session.is_valid(now):
            raise Unauthorized("the session has ended: sign in again")
        if now - session.used_at >= USE_UPDATE_INTERVAL:
            # Store only the time: the browser may be choosing another account at this moment.
            await self._sessions.touch(session.id, now)
            session = replace(session, used_at=now)
        return session

    async def account_choices(self, session: Session) -> Sequence[Session]:
        """The sessions that this session can become, one for each account of the person.

        Empty without a proved address, because an owner can type any address for a user.
        """
        if session.account_ids:
            return [replace(session, account_id=account_id) for account_id in session.account_ids]
        if session.is_operator or session.proved_email is None:
            return []
        return [session.for_user(user) for user in await self._users.find_by_email(session.proved_email)]

    async def choose(self, session: Session, account_id: str) -> Session:
        """Continue in another account of the same person. Raises `NotFound`."""
        choice = next(
            (choice for choice in await self.account_choices(session) if choice.account_id == account_id), None
        )
        if choice is None:
            raise NotFound(f"there is no account {account_id}")
        await self._sessions.change(choice, session_begun_entry(self._clock, choice, SignInMethod.ACCOUNT_CHOICE))
        return choice

    async def sign_out(self, session: Session) -> None:
        await self._sessions.remove(session.id, None)

    async def list(self, account_id: str) -> Sequence[Session]:
        """The valid sessions of an account, newest first."""
        return await self._sessions.list(account_id, self._clock.now())

    async def revoke(self, account_id: str, session_id: str, *, actor: str) -> None:
        """End a session at once. Raises `NotFound`."""
        audit_entry = new_entry(self._clock, actor, "session.revoked", session_id, account_id)
        if not await self._sessions.remove(session_id, account_id, audit_entry):
            raise NotFound(f"this account has no session {session_id}")

    async def enter_account(self, session: Session, account_id: str, role: Role) -> Session:
        """Show an account to an operator, with a role. The account's audit log records it. Raises `NotFound`."""
        if not session.is_operator:
            raise Forbidden("only an operator opens the view of another account")
        await self._accounts.require(account_id)
        entered_session = replace(session, account_id=account_id, role=role)
        audit_entry = new_entry(self._clock, session.actor, "account.entered", account_id, account_id, role=role)
        await self._sessions.change(entered_session, audit_entry)
        return entered_session

    async def leave_account(self, session: Session) -> Session:
        """Return from an account's view to the operator's pages."""
        if not session.is_operator:
            raise Forbidden("only an operator leaves an account's view")
        operator_session = replace(session, account_id=None, role=None)
        await self._sessions.change(operator_session)
        return operator_session


def session_begun_entry(clock: Clock, session: Session, method: SignInMethod, email: str | None = None) -> AuditEntry:
    """The audit entry of a session that begins, or that continues in an account."""
    return new_entry(
        clock,
        session.actor,
        "session.begun",
        session.id,
        session.account_id,
        method=method,
        email=email or session.email,
        address=session.address,
    )
