"""What SQL stores of webhooks, deliveries, jobs and mails."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from streams.core.account import DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.audit import AuditEntry
from streams.core.backfill import Backfill, OffsetRange
from streams.core.delivery_search import FacetCount, IdKind, LastAttempt
from streams.core.delivery_state import Batch, DeliveryState, EventKey, StateCount
from streams.core.held import Held, HeldChoice, Progress
from streams.core.job import Job
from streams.core.mail import Mail
from streams.core.page import Cursor, Page
from streams.core.platform_stats import AccountSummary, WebhookTrouble
from streams.core.usage import Launch, OutgoingEvent, UsageDetail, UsageMonth, UsagePlace
from streams.core.webhook import Registration, Status, Webhook
from streams.core.webhook_stats import FailedAttempt, FailureStreak, Hour, ResponseTimes, WebhookSummary

# -- webhooks ------------------------------------------------------------------------------------------------------


class Webhooks(Protocol):
    """The webhooks. Each change marks the webhook as dirty and writes its audit entry, in one transaction."""

    async def add(
        self, registration: Registration, audit_entry: AuditEntry | None = None, limit: int | None = None
    ) -> Registration:
        """Raises `Conflict` when the account already has `limit` webhooks."""

    async def list(self, account_id: str | None = None) -> Sequence[Registration]: ...

    async def page(
        self, account_id: str, after: Cursor | None, limit: int, status: Status | None = None
    ) -> Page[Registration]:
        """An account's webhooks, newest first; with `status` only those in it."""

    async def with_ids(self, account_id: str, webhook_ids: Collection[str]) -> Sequence[Registration]:
        """Those of these webhooks that the account has, or had: deleted ones too."""

    async def find(self, webhook_id: str) -> Registration | None: ...

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held: HeldChoice = HeldChoice.DELIVER,
        audit: Callable[[Registration, Registration | None], AuditEntry] | None = None,
    ) -> Registration | None:
        """Apply `change` to the current state and raise the version; when it returns None, delete the webhook.

        `held` decides about the held deliveries of a pause that ends; `audit` makes the entry of a change, from before
        and after. Returns what is stored now, or what was stored
        before a deletion; None when there is no such webhook. If `change` raises, nothing is changed.
        """


class AccountWebhooks(Protocol):
    """Which accounts exist, and which of their webhooks take an event's type."""

    async def existing_accounts(self, account_ids: Collection[str]) -> Collection[str]:
        """Those of these accounts that exist."""

    async def that_take(
        self, account_ids: Collection[str], event_types: Collection[str]
    ) -> Mapping[str, Sequence[Webhook]] | None:
        """The webhooks that take one of the types, by account, with the fields that `wants` reads.

        None when they or their scopes are too many to compare within a request.
        """


class PublicationStatus(Protocol):
    """Whether a webhook's newest version is on the topic."""

    async def is_published(self, webhook_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class Due:
    """A webhook to publish at `version`; `webhook` is None when it was deleted."""

    webhook_id: str
    version: int
    webhook: Webhook | None


class Outbox(Protocol):
    """The webhooks whose newest version is not on the topic yet."""

    async def compare(self, versions: Mapping[str, int], tombstones: Mapping[str, int] | None) -> Sequence[str]:
        """Make due what differs from the topic's versions, by webhook id. Returns the ids that SQL does not know.

        A webhook that SQL has in no newer version than the topic (after a restore of SQL) becomes due in a version
        that is newer than the topic's, its tombstone's and the clock, so that no reader takes it for old.
        `tombstones` is None for a topic on which nothing was yet.
        """

    async def owe(self, newest: Mapping[str, int]) -> None:
        """Make these due again, in a version that is not below the topic's, by webhook id. Unknown ids are skipped."""

    async def due(self, limit: int) -> Sequence[Due]: ...

    async def published(self, appended: Sequence[tuple[Due, datetime]]) -> None:
        """These versions are on the topic since these times; a newer version stays due."""

    async def changed(self) -> None:
        """Wait until something may be due, or for a moment. Raises `Unavailable`."""


class WebhookStats(Protocol):
    """Statistics of one webhook."""

    async def failing(self, webhook_id: str) -> FailureStreak:
        """Its failure streak in the current health epoch."""

    async def hours(self, webhook_id: str, since: datetime) -> Sequence[Hour]:
        """Attempts by the hour, oldest first."""

    async def response_times(self, webhook_id: str, since: datetime) -> Sequence[ResponseTimes]:
        """Response times by the hour, oldest first."""

    async def summaries(self, webhook_ids: Sequence[str], since: datetime) -> Mapping[str, WebhookSummary]:
        """The summary of each of these webhooks since an hour."""

    async def last_at(self, webhook_id: str, outcome: str) -> datetime | None:
        """When the last attempt with this outcome ended."""

    async def failures(self, webhook_id: str, limit: int) -> Sequence[FailedAttempt]:
        """Its last failed attempts, newest first."""

    async def account_hours(self, account_id: str, since: datetime) -> Sequence[Hour]:
        """Attempts of an account by the hour and the outcome, oldest first; without a webhook id."""

    async def unfinished(self, webhook_id: str) -> Sequence[StateCount]:
        """How many deliveries wait, are held or dead."""


class PlatformStats(Protocol):
    """What an operator sees of all accounts."""

    async def accounts(self, after: Cursor | None, limit: int, name: str | None = None) -> Page[AccountSummary]:
        """Newest first; with `name` those whose name or id contains it."""

    async def failing(self, limit: int) -> Sequence[WebhookTrouble]:
        """Webhooks that fail or are paused by failures, the newest failure first."""

    async def slowest(self, since: datetime, limit: int) -> Sequence[WebhookTrouble]:
        """Webhooks with the longest mean time of an attempt since an hour."""

    async def waiting_by_tier(self) -> Mapping[str, int]:
        """How many deliveries wait, by tier; those that are about to be sent have an empty name."""


# -- deliveries ----------------------------------------------------------------------------------------------------


class Recorder(Protocol):
    """Stores what happened to deliveries."""

    async def record(self, batch: Batch) -> Collection[EventKey]:
        """Store a batch in one transaction; a second time changes nothing. Returns the events stored with another body.

        Raises `Refused` for a row that the database does not take, `Unavailable` when it is away.
        """


class DeliveryLog(Protocol):
    """The stored deliveries, newest first."""

    async def list(self, wanted: DeliveryFilter) -> Page[DeliveryState]: ...

    async def find(self, delivery_id: str) -> DeliveryDetails | None: ...

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        """How many deliveries are in each state, by webhook id."""

    async def summary(self, wanted: DeliveryFilter) -> DeliverySummary:
        """How many deliveries match, and when the oldest and the newest were first seen."""

    async def existing(self, delivery_ids: Sequence[str]) -> Collection[str]:
        """Those of these ids that a delivery has."""


class DeliverySearch(Protocol):
    """Finds deliveries, and counts what a filter leaves."""

    async def count(self, wanted: DeliveryFilter, most: int) -> int:
        """How many match; `most` when there are at least as many."""

    async def facets(self, wanted: DeliveryFilter, most: int) -> Sequence[FacetCount]:
        """Counts of the newest `most` matches."""

    async def last_attempts(self, delivery_ids: Sequence[str]) -> Mapping[str, LastAttempt]:
        """The last attempt of each of these deliveries that has one."""

    async def kind_of(self, account_id: str, text: str) -> IdKind | None:
        """What this id names in an account."""


class Replays(Protocol):
    """Sends deliveries again or discards them. The audit entry is written if there were any."""

    async def replay(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Start a new generation of the deliveries that match and whose webhook exists. Returns their ids."""

    async def discard(self, wanted: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Discard the dead letters that match. Returns their ids."""


class HeldDeliveries(Protocol):
    """Held deliveries of webhooks that are active or deleted, and whose newest version is on the topic."""

    async def webhooks(self) -> Mapping[str, int]:
        """The ids of these webhooks, each with the number of released deliveries that are not yet attempted."""

    async def oldest(self, webhook_id: str, limit: int) -> Sequence[Held]: ...

    async def progress(self, delivery_ids: Sequence[str]) -> Sequence[Progress]: ...


class Jobs(Protocol):
    """Work on many deliveries that a person started."""

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        """Returns the job with its total; the stored one when there is a job with this id.

        Raises `Conflict` when another replay of the same webhook is not finished.
        """

    async def find(self, job_id: str) -> Job | None: ...

    async def unfinished(self) -> Sequence[Job]:
        """Oldest first."""

    async def advance(self, job_id: str) -> Job:
        """Do one more portion of the stored deliveries and store the progress, in one transaction."""

    async def backfill(self, job: Job, progress: Backfill, batch: Batch) -> Job:
        """Store the batch's deliveries that do not exist, their events and the progress, in one transaction.

        Changes nothing when the stored job is no longer at `job.backfill`. Returns what is stored then.
        """

    async def cancel(self, job_id: str, audit_entry: AuditEntry) -> Job | None:
        """End a job that is not finished. Returns what is stored then; None when there is no such job."""


# -- usage ---------------------------------------------------------------------------------------------------------


class UsageMeter(Protocol):
    """Counts launches. `incarnation` names the topic that they are read from."""

    async def positions(self, incarnation: str, partitions: Sequence[int]) -> Mapping[int, int]:
        """Where to read on in each partition of the topic. A recreated topic begins at its start."""

    async def count(self, incarnation: str, moves: Sequence[OffsetRange], launches: Sequence[Launch]) -> int | None:
        """Count the launches of these ranges, in one transaction with the new positions.

        Returns how many are new; None, and nothing is changed, when the positions are not those of `moves`. Raises
        `Refused` for a launch that the database does not take.
        """


class UsageLimits(Protocol):
    """Compares the present launches with a plan limit."""

    async def judge(self, account_id: str, limit: int | None, now: datetime) -> None:
        """Tell which thresholds of a changed limit the launches of this month have reached."""


class Usage(Protocol):
    """The launches of accounts."""

    async def months(self, account_id: str, limit: int) -> Sequence[UsageMonth]:
        """Newest first."""

    async def details(self, account_id: str, month: str, after: UsagePlace | None, limit: int) -> Sequence[UsageDetail]:
        """A month's launches by package and dispatch, in the order of these ids."""

    async def largest(self, account_id: str, month: str, limit: int) -> Sequence[UsageDetail]:
        """The same, the most launches first."""


class OutgoingEvents(Protocol):
    """Events of our own that are not acknowledged by the broker yet."""

    async def due(self, limit: int) -> Sequence[OutgoingEvent]:
        """Oldest first."""

    async def sent(self, ids: Sequence[str]) -> None:
        """Forget events that the broker acknowledged."""


# -- mails ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OwedMail:
    """A mail with its recipients."""

    mail: Mail
    emails: tuple[str, ...]


class Mails(Protocol):
    """The mails of accounts, owed and sent."""

    async def list(self, account_id: str, after: Cursor | None, limit: int) -> Page[Mail]:
        """Newest first."""

    async def due(self, now: datetime, limit: int) -> Sequence[OwedMail]: ...

    async def settle(self, mail: Mail) -> None:
        """Store the result of an attempt to send it."""

    async def owe_reminders(self, now: datetime) -> int:
        """Add a mail for each webhook that has dead letters for a day. Returns how many were added."""


# -- retention -----------------------------------------------------------------------------------------------------


class Prunable(Enum):
    """The kinds of rows that are deleted after a time."""

    DELIVERIES = auto()
    DEAD_LETTERS = auto()
    AUDIT = auto()
    RESPONSES = auto()
    ATTEMPTS_BY_HOUR = auto()
    RESPONSE_TIMES = auto()
    JOBS = auto()
    MAILS = auto()
    SIGN_INS = auto()
    SESSIONS = auto()
    COUNTED_LAUNCHES = auto()
    PENDING_SIGN_INS = auto()


class Pruning(Protocol):
    """Deletes old rows."""

    async def prune(self, what: Prunable, before: datetime, limit: int) -> int:
        """Delete up to `limit` rows in one transaction. Returns how many.

        Deliveries are deleted when they are delivered, discarded or failed, with their attempts and events.
        """
