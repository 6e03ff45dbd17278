"""What SQL stores of accounts, of who may use them, and of what they did."""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from streams.core.access import ApiKey, Role
from streams.core.account import Account, User
from streams.core.audit import AuditEntry, AuditFilter
from streams.core.mail import Mail
from streams.core.oidc import AuthorizationRequest, PendingSignIn
from streams.core.page import Cursor, Page
from streams.core.session import Session, SignIn


class Accounts(Protocol):
    """The accounts."""

    async def add(self, account: Account, key: ApiKey, audit_entry: AuditEntry | None = None) -> None: ...

    async def find(self, account_id: str) -> Account | None: ...

    async def page(self, after: Cursor | None, limit: int) -> Page[Account]:
        """Newest first."""

    async def change(
        self,
        account_id: str,
        change: Callable[[Account], Account],
        audit: Callable[[Account, Account], AuditEntry] | None = None,
    ) -> Account | None:
        """Returns what is stored now; None when there is no such account. `audit` makes the entry of a change."""


class ApiKeys(Protocol):
    """The API keys of accounts, stored as hashes."""

    async def add(self, key: ApiKey, audit_entry: AuditEntry) -> None:
        """Raises `Conflict` when the account has `KEYS_PER_ACCOUNT` active ones."""

    async def list(self, account_id: str) -> Sequence[ApiKey]:
        """Those that are active, and the last that ended: `KEYS_LISTED` at most, oldest first."""

    async def find(self, sha256: str) -> ApiKey | None: ...

    async def revoke(self, account_id: str, key_id: str, audit_entry: AuditEntry) -> bool:
        """False when the account has no such key. A second time changes nothing."""

    async def used(self, key_id: str, at: datetime) -> None: ...


class Users(Protocol):
    """The users of accounts."""

    async def add(self, user: User, audit_entry: AuditEntry) -> User:
        """Returns the account's user with this e-mail address, who may have existed before.

        Raises `Conflict` when the account has `USERS_PER_ACCOUNT`.
        """

    async def list(self, account_id: str) -> Sequence[User]: ...

    async def remove(self, account_id: str, user_id: str, audit_entry: AuditEntry) -> bool: ...

    async def find(self, user_id: str) -> User | None: ...

    async def with_email(self, email: str) -> Sequence[User]:
        """The users with this address, of any account; oldest first."""

    async def change_role(self, account_id: str, user_id: str, role: Role, audit_entry: AuditEntry) -> User | None:
        """Returns the changed user; None when the account has no such user. Sessions have the new role at once."""


class SignIns(Protocol):
    """One-time links and codes, stored as hashes."""

    async def add(self, sign_in: SignIn, *, mail: Mail | None = None, audit_entry: AuditEntry | None = None) -> None:
        """Store it, with the mail that brings it to its person."""

    async def count_open_mails(self, email: str, now: datetime) -> int:
        """How many were mailed to an address, and may still be used."""

    async def redeem(self, sha256: str, now: datetime) -> SignIn | None:
        """Use a link; None when it is unknown, used or expired. Of two callers one gets it."""

    async def guess(self, browser_sha256: str, code_sha256: str, now: datetime) -> SignIn | None:
        """Use the browser's newest code; None when it is wrong, used or expired. Each call costs a guess."""


class Sessions(Protocol):
    """Sessions of browsers, stored by the hash of their token."""

    async def add(self, session: Session, sha256: str, audit_entry: AuditEntry | None = None) -> None: ...

    async def find(self, sha256: str) -> Session | None:
        """With the role that its user has now."""

    async def list(self, account_id: str, now: datetime) -> Sequence[Session]:
        """Those that are valid then, newest first, `SESSIONS_LISTED` at most."""

    async def change(self, session: Session, audit_entry: AuditEntry | None = None) -> None:
        """Store the account, the user and the role of a session."""

    async def used(self, session_id: str, at: datetime) -> None:
        """Note the last use of a session."""

    async def remove(self, session_id: str, account_id: str | None, audit_entry: AuditEntry | None = None) -> bool:
        """End a session; with `account_id` only one of that account."""


class PendingSignIns(Protocol):
    """Sign-ins that wait for the answer of an OpenID Connect provider."""

    async def add(self, pending: PendingSignIn) -> None: ...

    async def take(self, state_sha256: str, browser_sha256: str, now: datetime) -> PendingSignIn | None:
        """Use one; None when it is unknown, used, expired, or of another browser. Of two callers one gets it."""


class IdentityProvider(Protocol):
    """An OpenID Connect provider. Raises `ProviderFailed` while it is away, and when its response is wrong."""

    async def authorization_url(self, request: AuthorizationRequest) -> str:
        """Where the browser goes to sign in."""

    async def claims(self, code: str, request: AuthorizationRequest, wanted: Set[str]) -> Mapping[str, object]:
        """The claims of the person who signed in, validated; those in `wanted` that the provider has.

        Raises `SignInRefused` when the code or the token is not valid.
        """


class AuditLog(Protocol):
    """Who did what, newest first."""

    async def add(self, audit_entry: AuditEntry) -> None:
        """Write an entry for something that changed no row."""

    async def list(self, wanted: AuditFilter, after: Cursor | None, limit: int) -> Page[AuditEntry]:
        """A page ends early when its rows have more than `LIST_BYTES`."""


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """An earlier request with the same idempotency key; without a status it is still in progress."""

    fingerprint: str
    begun_at: datetime
    status: int | None = None
    encrypted_response: str | None = None


class IdempotencyStore(Protocol):
    """Responses to requests with an idempotency key."""

    async def begin(self, caller: str, key: str, fingerprint: str, now: datetime) -> EarlierRequest | None:
        """Claim the key for a request. None when it is the first one with this key."""

    async def finish(self, caller: str, key: str, begun_at: datetime, status: int, encrypted_response: str) -> None:
        """Store the response of the request that began then."""

    async def forget(self, caller: str, key: str, begun_at: datetime) -> None:
        """Give the key back: the request that began then did nothing."""
