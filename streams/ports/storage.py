"""What people's work on webhooks and deliveries needs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from streams.core.account import DeliveryDetails, DeliveryFilter
from streams.core.audit import AuditEntry
from streams.core.delivery_state import DeliveryState, StateCount
from streams.core.held import HeldChoice
from streams.core.job import Job
from streams.core.page import Cursor, Page
from streams.core.webhook import Registration, Webhook
from streams.core.webhook_stats import FailureStreak, Hour, ResponseTimes


class Replays(Protocol):
    """Deliveries that people act on; the deed is noted if there were any."""

    async def replay(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Start a new generation of those that match and whose webhook lives; their ids."""

    async def discard(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Give those that match up for good; their ids."""


class Webhooks(Protocol):
    """The webhooks in SQL; every change becomes due for the topic, and its deed is noted, in the same transaction."""

    async def add(
        self, registration: Registration, audit_entry: AuditEntry | None = None, limit: int | None = None
    ) -> Registration:
        """Raises `Conflict` when the account has `limit` webhooks already."""

    async def list(self, account_id: str | None = None) -> Sequence[Registration]: ...

    async def page(self, account_id: str, after: Cursor | None, limit: int) -> Page[Registration]:
        """An account's webhooks, newest first."""

    async def find(self, webhook_id: str) -> Registration | None: ...

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held: HeldChoice = HeldChoice.DELIVER,
        audit_entry: AuditEntry | None = None,
    ) -> Registration | None:
        """Apply `change` to the current state and raise the version; None from it deletes.

        If it ends a pause, `held` is what becomes of what that pause holds. What is stored now (of a deleted one:
        what it was), or None when there is no such webhook. What `change` raises leaves everything as it was.
        """


class AccountWebhooks(Protocol):
    """Which accounts exist, and which of their webhooks take an event's type."""

    async def existing_accounts(self, account_ids: Collection[str]) -> Collection[str]:
        """Those of these accounts that exist."""

    async def that_take(
        self, account_ids: Collection[str], event_types: Collection[str]
    ) -> Mapping[str, Sequence[Webhook]] | None:
        """The webhooks that take one of the types, by account, with the fields that `wants` reads.

        None when they, or their scopes, are too many to compare within a request.
        """


class PublicationStatus(Protocol):
    """Whether a webhook's newest version is on the topic."""

    async def is_published(self, webhook_id: str) -> bool: ...


class DeliveryLog(Protocol):
    """What was recorded of deliveries, newest first."""

    async def list(self, wanted: DeliveryFilter) -> Page[DeliveryState]: ...

    async def find(self, delivery_id: str) -> DeliveryDetails | None: ...

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        """How many deliveries stand where, by webhook id."""


class WebhookStats(Protocol):
    """What is known of a webhook's attempts in numbers."""

    async def failing(self, webhook_id: str) -> FailureStreak:
        """Its run of failures in its current health epoch."""

    async def hours(self, webhook_id: str, since: datetime) -> Sequence[Hour]:
        """Oldest first."""

    async def response_times(self, webhook_id: str, since: datetime) -> Sequence[ResponseTimes]:
        """Oldest first."""

    async def last_at(self, webhook_id: str, outcome: str) -> datetime | None:
        """When an attempt last ended so."""

    async def unfinished(self, webhook_id: str) -> Sequence[StateCount]:
        """How many deliveries wait, are held or dead."""


class Jobs(Protocol):
    """What people start on many deliveries at once."""

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        """The job with its total."""

    async def find(self, job_id: str) -> Job | None: ...

    async def unfinished(self) -> Sequence[Job]:
        """Oldest first."""

    async def advance(self, job_id: str) -> Job:
        """Do one more portion, and note it, in one transaction."""


class Encryption(Protocol):
    """Encrypts what must not be readable at rest or on a topic. Raises `InvalidRecord` when no configured key fits."""

    def encrypt(self, plain: str) -> str: ...

    def reencrypt(self, ciphertext: str) -> str:
        """The same text, encrypted with the newest key."""

    def decrypt(self, ciphertext: str) -> str: ...

    def decrypt_headers(self, ciphertext: str | None) -> Mapping[str, str]:
        """A webhook's own headers; none for None."""


class EncryptionCheck(Protocol):
    """Whether this process has the keys with which the others encrypt."""

    async def verified(self) -> str:
        """The check text, encrypted. Raises `Unavailable` when no key of ours opens it."""

    async def reencrypt(self) -> None:
        """Encrypt it with the newest key; raises what `verified` raises."""


class DnsCheck(Protocol):
    """Where host names lead."""

    async def problem(self, url: str) -> str | None:
        """Why a webhook may not have this URL, told to a person; None when it may, or when that is not known yet."""
