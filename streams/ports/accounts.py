"""What access, mails and housekeeping need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from streams.core.access import ApiKey
from streams.core.account import Account, User
from streams.core.audit import AuditEntry
from streams.core.mail import Mail, RenderedMail
from streams.core.page import Cursor, Page


class Accounts(Protocol):
    """The accounts."""

    async def add(self, account: Account, key: ApiKey, audit_entry: AuditEntry | None = None) -> None: ...

    async def find(self, account_id: str) -> Account | None: ...

    async def list(self) -> Sequence[Account]: ...

    async def change(
        self, account_id: str, change: Callable[[Account], Account], audit_entry: AuditEntry | None = None
    ) -> Account | None:
        """What is stored now; None when there is no such account."""


class ApiKeys(Protocol):
    """The keys of accounts, which are never shown again."""

    async def add(self, key: ApiKey, audit_entry: AuditEntry) -> None: ...

    async def list(self, account_id: str) -> Sequence[ApiKey]: ...

    async def find(self, sha256: str) -> ApiKey | None: ...

    async def revoke(self, account_id: str, key_id: str, audit_entry: AuditEntry) -> bool:
        """False when the account has no such key; a second time changes nothing."""

    async def used(self, key_id: str, at: datetime) -> None: ...


class Users(Protocol):
    """Who may sign in to an account's dashboard, and the links by which they do, once each."""

    async def add(self, user: User, audit_entry: AuditEntry) -> User:
        """The account's user with this e-mail address, who may have been there."""

    async def list(self, account_id: str) -> Sequence[User]: ...

    async def remove(self, account_id: str, user_id: str, audit_entry: AuditEntry) -> bool: ...

    async def find(self, user_id: str) -> User | None: ...

    async def add_link(self, sha256: str, user_id: str, expires_at: datetime, audit_entry: AuditEntry) -> None: ...

    async def redeem(self, sha256: str, now: datetime) -> User | None:
        """Whose link it is; None when it is unknown, used or expired."""


class AuditLog(Protocol):
    """Who did what, newest first."""

    async def add(self, audit_entry: AuditEntry) -> None:
        """Note a deed that changed nothing."""

    async def list(self, account_id: str | None, after: Cursor | None, limit: int) -> Page[AuditEntry]: ...


@dataclass(frozen=True, slots=True)
class EarlierRequest:
    """What is known of an earlier request with the same key; no status: it has not been answered."""

    fingerprint: str
    begun_at: datetime
    status: int | None = None
    encrypted_response: str | None = None


class IdempotencyStore(Protocol):
    """What was answered to requests that may come again."""

    async def begin(self, caller: str, key: str, fingerprint: str, now: datetime) -> EarlierRequest | None:
        """None when this is the first of its key, which it holds from now on."""

    async def finish(self, caller: str, key: str, begun_at: datetime, status: int, encrypted_response: str) -> None:
        """The one that was begun then was answered so."""

    async def forget(self, caller: str, key: str, begun_at: datetime) -> None:
        """The one that was begun then did nothing."""


@dataclass(frozen=True, slots=True)
class OwedMail:
    """A mail with those who are to get it."""

    mail: Mail
    emails: tuple[str, ...]


class Mails(Protocol):
    """The mails of accounts, owed and sent."""

    async def list(self, account_id: str, after: Cursor | None, limit: int) -> Page[Mail]:
        """Newest first."""

    async def due(self, now: datetime, limit: int) -> Sequence[OwedMail]: ...

    async def settle(self, mail: Mail) -> None:
        """Keep what became of a try."""

    async def owe_reminders(self, now: datetime) -> int:
        """Owe a mail for each webhook that has had dead letters for a day; how many there are anew."""


class MailTransport(Protocol):
    """The way to people's mailboxes."""

    async def send(self, message_id: str, emails: Sequence[str], letter: RenderedMail) -> str | None:
        """Hand it over; words for what is to be known of that, if anything.

        Raises `Unavailable` where another try may do, `PartiallySent` where some have it, `Refused` where none will.
        """


class Prunable(Enum):
    """What is not kept for ever."""

    DELIVERIES = auto()
    DEAD_LETTERS = auto()
    AUDIT = auto()
    ANSWERS = auto()
    ATTEMPTS_BY_HOUR = auto()
    RESPONSE_TIMES = auto()
    JOBS = auto()
    MAILS = auto()
    LINKS = auto()


class Pruning(Protocol):
    """Takes away what was kept for long enough."""

    async def prune(self, what: Prunable, before: datetime, limit: int) -> int:
        """Up to `limit` rows in one transaction; how many. Of deliveries: done ones, with all that is theirs."""
