"""Signing in: one-time links with typed codes, and sessions."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from streams.core.accounts.access import PERMISSIONS, Caller, Role, digest
from streams.core.accounts.account import User

LINK_LIFETIME = timedelta(minutes=15)
# A portal link may last longer, because a platform may show it in a page.
MAX_LINK_LIFETIME = timedelta(days=1)
CODE_DIGITS = 8
MAX_CODE_GUESSES = 5
# Limits the mails whose link still works, so that nobody fills another person's mailbox. Each of these links signs the
# person in, so a client that requests many mails locks nobody out.
MAX_USABLE_SIGN_INS = 3

SESSION_LIFETIME = timedelta(days=7)
# Operators see every account.
OPERATOR_SESSION_LIFETIME = timedelta(hours=12)
# The provider is not asked again whether the person may still sign in.
OIDC_SESSION_LIFETIME = timedelta(hours=12)
# Without a request for this long, a session ends.
IDLE_TIMEOUT = timedelta(hours=12)
# The use of a session is stored at most this often.
USE_UPDATE_INTERVAL = timedelta(minutes=1)


class SignInMethod(StrEnum):
    """How a session began, for the audit log."""

    CODE = "code"
    LINK = "link"
    PORTAL_LINK = "portal_link"
    OPERATOR_KEY = "operator_key"
    OIDC = "oidc"
    ACCOUNT_CHOICE = "account_choice"


@dataclass(frozen=True, slots=True)
class SignIn:
    """A way to sign in once: as a user, as every user with an e-mail address, with a role, or as an operator.

    `sha256` is the hash of the link's token. The browser that asked for a mail may send the code instead;
    `browser_sha256` is the hash of that browser's token. `actor` is who made the link.
    """

    sha256: str
    actor: str
    created_at: datetime
    expires_at: datetime
    email: str | None = None
    user_id: str | None = None
    account_id: str | None = None
    role: Role | None = None
    return_url: str | None = None
    browser_sha256: str | None = None
    code_sha256: str | None = None
    guesses_left: int = 0
    is_operator: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A signed-in browser. It has no account until a person with several accounts chooses one.

    `proved_email` is the address that the person proved to have, by a mail or by a provider. A session needs it to
    choose between the accounts of that address. `email` is for display: it was only typed. `address` and `user_agent`
    come from the sign-in. An operator has an account while looking at it. `account_ids` are the accounts to choose
    from, if a provider names them.
    """

    id: str
    actor: str
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    account_id: str | None = None
    role: Role | None = None
    user_id: str | None = None
    email: str | None = None
    proved_email: str | None = None
    return_url: str | None = None
    address: str = ""
    user_agent: str = ""
    is_operator: bool = False
    account_ids: tuple[str, ...] = ()

    def is_valid(self, now: datetime) -> bool:
        """Whether the session has neither expired nor been idle for too long."""
        return now < min(self.expires_at, self.used_at + IDLE_TIMEOUT)

    def for_user(self, user: User) -> "Session":
        """The same browser, signed in as this user."""
        return replace(
            self, actor=f"user:{user.id}", account_id=user.account_id, role=user.role, user_id=user.id, email=user.email
        )

    @property
    def caller(self) -> Caller | None:
        """The caller of the session's requests; None without an account."""
        if self.account_id is None or self.role is None:
            return None
        return Caller(self.actor, PERMISSIONS[self.role], self.account_id)


def code_digest(browser_token: str, code: str) -> str:
    """The stored hash of a code. The browser's token is its salt, because a code is short."""
    return digest(f"{browser_token}/{digits_of(code)}")


def digits_of(code: str) -> str:
    """The digits of a code, which people type with spaces."""
    return "".join(character for character in code if character.isascii() and character.isdigit())


def format_code(number: int) -> str:
    """A code as it is shown, from a random number below 10 ** CODE_DIGITS."""
    text = f"{number:0{CODE_DIGITS}}"
    half = CODE_DIGITS // 2
    return f"{text[:half]} {text[half:]}"
