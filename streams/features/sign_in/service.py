"""Sign people in: by a mail with a link and a code, by a link, or by an identity provider."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from streams.core.accounts.access import Role, digest
from streams.core.accounts.account import User
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.mail import Mail, MailKind
from streams.core.accounts.session import (
    LINK_LIFETIME,
    MAX_CODE_GUESSES,
    MAX_LINK_LIFETIME,
    MAX_USABLE_SIGN_INS,
    OIDC_SESSION_LIFETIME,
    OPERATOR_SESSION_LIFETIME,
    SESSION_LIFETIME,
    Session,
    SignIn,
    SignInMethod,
    code_digest,
)
from streams.core.errors import FieldError, Invalid, NotFound, Unauthorized
from streams.core.webhooks.url import page_url_errors
from streams.features.shared.accounts import SqlAccounts, SqlUsers
from streams.features.shared.audit_trail import new_entry
from streams.features.shared.emails import email_errors, normalize_email
from streams.features.sign_in.sessions import session_begun_entry
from streams.features.sign_in.storage import SqlSessions, SqlSignIns
from streams.ids import new_id
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock

MAX_USER_AGENT_CHARACTERS = 300
_WRONG_LINK_MESSAGE = "the link was used already, or has expired: ask for a new one"
_WRONG_CODE_MESSAGE = (
    "the code is wrong, was used already, has expired, or was asked for in another browser: "
    "check it, or open the link of the mail"
)


@dataclass(frozen=True, slots=True)
class Browser:
    """The browser of a request: its network address and its user agent."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Link:
    """A link that signs in once; its page asks the person to press a button."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class LinkHolder:
    """The person whom a link signs in: the role and the account. With several `accounts` the person chooses one."""

    role: str | None
    email: str | None = None
    account: str | None = None
    accounts: int = 1


@dataclass(frozen=True, slots=True)
class OpenedSignIn:
    """A new session with its token, which the browser keeps."""

    session: Session
    token: str = field(repr=False)


@dataclass
class SignInService:
    """`_new_token` makes a random text, `_new_code` a random code of digits.

    `_address` is the dashboard's URL.
    """

    _accounts: SqlAccounts
    _users: SqlUsers
    _sign_ins: SqlSignIns
    _sessions: SqlSessions
    _encryption: Encryption
    _clock: Clock
    _new_token: Callable[[], str]
    _new_code: Callable[[], str]
    _address: str

    # -- ways in ------------------------------------------------------------------------------------------------

    async def send_sign_in_mail(self, email: str) -> str:
        """Send a mail with a link and a code, if the address has a user. Returns the token of the asking browser.

        No mail is sent while enough earlier links still work. The work is the same for an address without a
        user, so that it does not reveal who has an account. Raises `Invalid`.
        """
        if errors := email_errors("email", [email]):
            raise Invalid(*errors)
        email, now = normalize_email(email).lower(), self._clock.now()
        token, browser_token, code = self._new_token(), self._new_token(), self._new_code()
        sign_in = SignIn(
            digest(token), f"email:{email}", now, now + LINK_LIFETIME, email=email, browser_sha256=digest(browser_token)
        )
        mail = self._build_mail(await self._users.find_by_email(email), email, token, code, now)
        mailed = None
        if mail is not None:
            # Without a mail there is no code: a code that is in no mail can only be guessed.
            mailed = replace(sign_in, code_sha256=code_digest(browser_token, code), guesses_left=MAX_CODE_GUESSES)
        if mail is None or mailed is None or not await self._sign_ins.add_with_mail(mailed, mail, MAX_USABLE_SIGN_INS):
            await self._sign_ins.add(sign_in)
        return browser_token

    def _build_mail(self, users: Sequence[User], email: str, token: str, code: str, now: datetime) -> Mail | None:
        # Encrypted, because a reader of the database must not be able to sign in.
        ciphertext = self._encryption.encrypt(json.dumps({"token": token, "code": code}))
        if not users:
            return None
        return Mail(
            id=new_id("mail"),
            key=f"{MailKind.SIGN_IN}/{digest(token)}",
            account_id=users[0].account_id,
            webhook_id="",
            kind=MailKind.SIGN_IN,
            details={"email": email, "ciphertext": ciphertext},
            created_at=now,
            due_at=now,
        )

    async def create_user_link(self, account_id: str, user_id: str, *, actor: str) -> Link:
        """Make a link by which a user signs in once, within 15 minutes. Raises `NotFound`."""
        user = await self._users.find(user_id)
        if user is None or user.account_id != account_id:
            raise NotFound(f"this account has no user {user_id}")
        token, now = self._new_token(), self._clock.now()
        audit_entry = new_entry(self._clock, actor, "user.sign_in_token_made", user_id, account_id)
        sign_in = SignIn(digest(token), actor, now, now + LINK_LIFETIME, user_id=user_id)
        await self._sign_ins.add(sign_in, audit_entry=audit_entry)
        return self._link(token, sign_in)

    async def create_portal_link(
        self,
        account_id: str,
        role: Role = Role.MEMBER,
        lifetime: timedelta = LINK_LIFETIME,
        return_url: str | None = None,
        *,
        actor: str,
    ) -> Link:
        """Make a link that signs one browser in to an account, once. Raises `Invalid` and `NotFound`."""
        if not timedelta(minutes=1) <= lifetime <= MAX_LINK_LIFETIME:
            raise Invalid(FieldError("minutes", f"must be from 1 to {MAX_LINK_LIFETIME // timedelta(minutes=1)}"))
        if return_url is not None and (errors := page_url_errors("returnUrl", return_url)):
            raise Invalid(*errors)
        await self._accounts.require(account_id)
        token, now = self._new_token(), self._clock.now()
        sign_in = SignIn(
            digest(token), actor, now, now + lifetime, account_id=account_id, role=role, return_url=return_url
        )
        audit_entry = new_entry(self._clock, actor, "portal_link.made", account_id, account_id, role=role)
        await self._sign_ins.add(sign_in, audit_entry=audit_entry)
        return self._link(token, sign_in)

    async def create_operator_link(self, *, actor: str) -> Link:
        """Make a link by which an operator signs in once, within 15 minutes."""
        token, now = self._new_token(), self._clock.now()
        sign_in = SignIn(digest(token), actor, now, now + LINK_LIFETIME, is_operator=True)
        audit_entry = new_entry(self._clock, actor, "operator.sign_in_link_made", "operator")
        await self._sign_ins.add(sign_in, audit_entry=audit_entry)
        return self._link(token, sign_in)

    def _link(self, token: str, sign_in: SignIn) -> Link:
        return Link(f"{self._address.rstrip('/')}/sign-in/{token}", sign_in.expires_at)

    # -- in -----------------------------------------------------------------------------------------------------

    async def find_link_holder(self, token: str) -> LinkHolder:
        """The person whom a link signs in; the link stays unused. Raises `Unauthorized`."""
        sign_in = await self._sign_ins.find(digest(token), self._clock.now())
        if sign_in is None:
            raise Unauthorized(_WRONG_LINK_MESSAGE)
        if sign_in.is_operator:
            return LinkHolder("operator")
        if sign_in.account_id is not None:
            return LinkHolder(sign_in.role, account=(await self._accounts.require(sign_in.account_id)).name)
        users = await self._users_of(sign_in)
        if not users:
            raise Unauthorized(_WRONG_LINK_MESSAGE)
        user = users[0]
        if len(users) > 1:
            return LinkHolder(None, user.email, accounts=len(users))
        return LinkHolder(user.role, user.email, (await self._accounts.require(user.account_id)).name)

    async def sign_in_by_link(self, token: str, browser: Browser) -> OpenedSignIn:
        """Redeem a one-time token. Raises `Unauthorized`."""
        sign_in = await self._sign_ins.redeem(digest(token), self._clock.now())
        method = SignInMethod.PORTAL_LINK if sign_in and sign_in.role else SignInMethod.LINK
        return await self._open(sign_in, browser, method, _WRONG_LINK_MESSAGE)

    async def sign_in_by_code(self, browser_token: str, code: str, browser: Browser) -> OpenedSignIn:
        """Redeem a typed code, in the browser that asked for it. Raises `Unauthorized`."""
        digests = digest(browser_token), code_digest(browser_token, code)
        sign_in = await self._sign_ins.guess(*digests, self._clock.now())
        return await self._open(sign_in, browser, SignInMethod.CODE, _WRONG_CODE_MESSAGE)

    async def sign_in_operator(
        self,
        actor: str,
        browser: Browser,
        method: SignInMethod = SignInMethod.OPERATOR_KEY,
        email: str | None = None,
    ) -> OpenedSignIn:
        """Open a session for a proved operator. `enter` allows it to look at an account.

        `email` is for the audit log.
        """
        session = replace(self._new_session(actor, browser, OPERATOR_SESSION_LIFETIME), is_operator=True)
        return await self._begin(session, session_begun_entry(self._clock, session, method, email=email))

    async def sign_in_by_email(self, email: str, browser: Browser) -> OpenedSignIn:
        """Open a session for a person whose address a provider has verified, as every user with that address.

        Raises `Unauthorized`.
        """
        users = await self._users.find_by_email(email)
        if not users:
            raise Unauthorized("no user has this address")
        session = replace(
            self._new_session(f"email:{email}", browser, OIDC_SESSION_LIFETIME), email=email, proved_email=email
        )
        return await self._begin_of_users(session, users, SignInMethod.OIDC)

    async def sign_in_member(
        self, actor: str, account_ids: Sequence[str], role: Role, email: str | None, browser: Browser
    ) -> OpenedSignIn:
        """Open a session for a person to whom a provider gives a role in these existing accounts."""
        session = replace(
            self._new_session(actor, browser, OIDC_SESSION_LIFETIME),
            account_id=account_ids[0] if len(account_ids) == 1 else None,
            role=role,
            email=email,
            account_ids=tuple(account_ids),
        )
        return await self._begin(session, session_begun_entry(self._clock, session, SignInMethod.OIDC))

    async def _open(
        self, sign_in: SignIn | None, browser: Browser, method: SignInMethod, error_message: str
    ) -> OpenedSignIn:
        if sign_in is None:
            raise Unauthorized(error_message)
        if sign_in.is_operator:
            return await self.sign_in_operator(sign_in.actor, browser, method)
        session = replace(
            self._new_session(sign_in.actor, browser, SESSION_LIFETIME),
            account_id=sign_in.account_id,
            role=sign_in.role,
            email=sign_in.email,
            # The link or the code was mailed to this address.
            proved_email=sign_in.email,
            return_url=sign_in.return_url,
        )
        if sign_in.account_id is not None:
            return await self._begin(session, session_begun_entry(self._clock, session, method))
        users = await self._users_of(sign_in)
        if not users:
            raise Unauthorized(error_message)
        return await self._begin_of_users(session, users, method)

    def _new_session(self, actor: str, browser: Browser, lifetime: timedelta) -> Session:
        now, user_agent = self._clock.now(), browser.user_agent[:MAX_USER_AGENT_CHARACTERS]
        return Session(
            new_id("session"), actor, now, now, now + lifetime, address=browser.address, user_agent=user_agent
        )

    async def _begin_of_users(self, session: Session, users: Sequence[User], method: SignInMethod) -> OpenedSignIn:
        """Begin a session: a person of one account is in it, a person of several accounts has to choose."""
        session = session.for_user(users[0]) if len(users) == 1 else session
        return await self._begin(session, session_begun_entry(self._clock, session, method))

    async def _begin(self, session: Session, audit_entry: AuditEntry) -> OpenedSignIn:
        token = self._new_token()
        await self._sessions.add(session, digest(token), audit_entry)
        return OpenedSignIn(session, token)

    async def _users_of(self, sign_in: SignIn) -> Sequence[User]:
        if sign_in.email is not None:
            return await self._users.find_by_email(sign_in.email)
        user = await self._users.find(sign_in.user_id) if sign_in.user_id else None
        return [user] if user else []
