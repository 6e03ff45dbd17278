"""The SQL storage of deliveries, jobs, erasures, usage and mails."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import NamedTuple, Protocol

from streams.core.accounts.account import AttemptDetails, DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.mail import Mail
from streams.core.accounts.usage import LaunchBatch, NewLaunches, OutgoingEvent, UnknownAccount
from streams.core.deliveries.backfill import Backfill, OffsetRange
from streams.core.deliveries.backlog import Backlog
from streams.core.deliveries.delivery_state import Batch, DeliveryState, EventKey, RecordedEvent, StateCount
from streams.core.deliveries.held import HeldDelivery, Probe, PulledWebhook, ReleaseProgress
from streams.core.deliveries.job import Job
from streams.core.erasures.erasure import ErasedLearner, Erasure, HashedLearner
from streams.core.failed_work import FailedRows, FailedWork, WorkKind
from streams.core.page import Cursor, Page

# -- deliveries ----------------------------------------------------------------------------------------------------


class Recorder(Protocol):
    """Stores the results of deliveries."""

    async def record(self, batch: Batch) -> Collection[EventKey]:
        """Store a batch in one transaction; storing it again changes nothing.

        Returns the events that are stored with another body.

        Raises `RowRefused` for a row that the database does not accept, and `Unavailable` when it is away.
        """


class DeliveryStore(Protocol):
    """The stored deliveries, newest first."""

    async def list(self, delivery_filter: DeliveryFilter) -> Page[DeliveryState]: ...

    async def find(self, delivery_id: str) -> DeliveryDetails | None:
        """A delivery with its newest attempts, as many as `attempts` returns first."""

    async def attempts(self, delivery_id: str, cursor: Cursor | None, limit: int) -> Page[AttemptDetails]:
        """The attempts of a delivery, newest first.

        A page ends early when its attempts have more than `MAX_ATTEMPT_BYTES_SHOWN` stored bytes.
        """

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        """How many deliveries are in each state, by webhook id."""

    async def summary(self, delivery_filter: DeliveryFilter) -> DeliverySummary:
        """How many deliveries match, and when the oldest and the newest were first seen."""

    async def find_existing(self, delivery_ids: Sequence[str]) -> Collection[str]:
        """The ids among these that a delivery has."""

    async def sequences(self, account_id: str, event_ids: Sequence[str]) -> Mapping[str, int]:
        """The `sequence` in the bodies of these events, by event id; events without one are omitted."""

    async def with_outcome(self, delivery_ids: Sequence[str]) -> Collection[str]:
        """The deliveries among these that no longer wait, and whose payload is stored."""


class Replays(Protocol):
    """Sends deliveries again or discards them. The audit entry is written if there were any."""

    async def replay(self, delivery_filter: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Start a new generation of the deliveries that match and whose webhook exists. Returns their ids."""

    async def discard(self, delivery_filter: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        """Discard the dead letters that match. Returns their ids."""


class HeldDeliveries(Protocol):
    """Held deliveries of webhooks that are active or deleted, and whose newest version is on the topic."""

    async def webhooks(self) -> Mapping[str, int]:
        """The ids of these webhooks, each with the number of released deliveries that are not yet attempted."""

    async def oldest(
        self, webhook_id: str, limit: int, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[HeldDelivery]:
        """The oldest held deliveries, without the `excluded` ids."""

    async def pulled_webhooks(self) -> Sequence[PulledWebhook]:
        """The webhooks with deliveries that wait for readers."""

    async def unacknowledged(
        self,
        webhook_id: str,
        held_before: datetime,
        now: datetime,
        limit: int,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> Sequence[HeldDelivery]:
        """Deliveries that have waited for readers since before `held_before`, and that no reader has at the moment."""

    async def to_requests(self, webhook_id: str, now: datetime, limit: int) -> int:
        """Release deliveries that wait for readers, because the webhook now has a URL or is deleted.

        Leases continue until their end. Returns how many, at most `limit`.
        """

    async def due_probes(
        self, now: datetime, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[Probe]:
        """A held delivery of each paused webhook whose probe is due and which has none under way: the oldest first,
        then a newer one each time.
        """

    async def move_probe(self, webhook_id: str, pause_id: str, now: datetime) -> None:
        """Set the time of the next probe of this pause."""

    async def progress(
        self, delivery_ids: Sequence[str], failed_rows: FailedRows = None
    ) -> Sequence[ReleaseProgress]: ...


class OverdueRetries(Protocol):
    """Retries that were not sent in time."""

    async def resend(self, due_before: datetime, limit: int) -> int:
        """Start a new generation of retries that were due before this time, at most `limit`. Returns how many.

        A retry without a payload becomes a dead letter.
        """


class Jobs(Protocol):
    """Work on many deliveries that a person started."""

    async def add(self, job: Job, audit_entry: AuditEntry) -> Job:
        """Add a job. Returns it with its total; if there is a job with this id, returns the stored one.

        Raises `Conflict` if another replay of the same webhook is unfinished, or if the account already has
        `MAX_UNFINISHED_JOBS_PER_ACCOUNT` unfinished jobs.
        """

    async def find(self, job_id: str) -> Job | None: ...

    async def list_unfinished(self, after_id: str, failed_rows: FailedRows = None) -> Sequence[Job]:
        """The oldest `MAX_UNFINISHED_JOBS_PER_ACCOUNT` unfinished jobs of the next account after `after_id`, by id.

        Empty after the last account.
        """

    async def do_next_portion(self, job_id: str) -> Job:
        """Do one more portion of the stored deliveries and store the progress, in one transaction."""

    async def store_backfill(self, job: Job, progress: Backfill, batch: Batch) -> Job:
        """Store the batch's new deliveries, their events and the progress, in one transaction.

        Changes nothing if the stored job is no longer at `job.backfill`. Returns the stored job.
        """

    async def cancel(self, job_id: str, audit_entry: AuditEntry) -> Job | None:
        """End a job that is not finished. Returns the stored job; None if there is no such job."""


# -- erasures ------------------------------------------------------------------------------------------------------


class Erasures(Protocol):
    """Erases learners, in portions that survive a restart."""

    async def hash_learner(self, account_id: str, learner_id: str) -> HashedLearner:
        """The keyed hash of a learner."""

    async def start(self, erasure: Erasure, hash_key_id: str, learner_id: str, audit_entry: AuditEntry) -> Erasure:
        """Begin an erasure: no later record brings the learner's data back. Returns the stored erasure.

        The erasure is due for the topic `erasures`, from which `deliver` learns of it.
        """

    async def find(self, erasure_id: str) -> Erasure | None: ...

    async def list_unfinished(self, cutoff: datetime, failed_rows: FailedRows = None) -> Sequence[Erasure]:
        """The unfinished erasures that were created before this time, oldest first."""

    async def do_next_portion(self, erasure_id: str) -> Erasure:
        """Erase one more portion and store the progress, in one transaction."""


class ErasurePage(NamedTuple):
    """A portion of SQL's erasures: its last learner (None at the end), and how many of them the topic has."""

    last_learner: tuple[str, str] | None
    on_topic_count: int


class ErasureHistory(Protocol):
    """The records of the topic `erasures` from its start, for a database that lacks some."""

    async def read(self, offset: int) -> tuple[Sequence[ErasedLearner], int | None]:
        """The erasures from this offset on, and where the next portion begins; None at the end.

        Raises `Unavailable`.
        """


class ErasurePublication(Protocol):
    """Whether an erasure is on the topic `erasures`."""

    async def is_published(self, account_id: str, learner_hash: str) -> bool: ...


class ErasureOutbox(ErasurePublication, Protocol):
    """The erased learners, and which of them the topic `erasures` does not have yet."""

    async def reconcile_next(
        self, after: tuple[str, str], time_on_topic: Callable[[str], datetime | None]
    ) -> ErasurePage:
        """Make erasures due that the topic lacks or has older, in the portion after this key. Looks up by hash."""

    async def learn(self, erased: Sequence[ErasedLearner]) -> int:
        """Store erasures from the topic that are missing in SQL, or newer than there. Returns how many."""

    async def hash_keys(self) -> Mapping[str, str]:
        """The encrypted keys of the hashes, by id; this database's own key is first. Raises `WrongKeys`."""

    async def learn_hash_keys(self, ciphertexts: Mapping[str, str]) -> int:
        """Store the keys that SQL lacks. Returns how many."""

    async def unused_hash_keys(self) -> Sequence[str]:
        """The keys of other databases that no learner's hash uses any more."""

    async def forget_hash_key(self, hash_key_id: str) -> None: ...

    async def list_due(self, limit: int) -> Sequence[ErasedLearner]: ...

    async def mark_published(self, erased: Sequence[ErasedLearner]) -> None:
        """Note that the topic has these now. A learner who was erased again since then stays due."""

    async def mark_dirty(self, keys: Sequence[tuple[str, str]]) -> None:
        """Make these erasures due again, by account and hash. Unknown ones are skipped."""

    async def list_expired(self, before: datetime, limit: int) -> Sequence[ErasedLearner]:
        """The oldest erasures from before this time."""

    async def forget(self, erased: Sequence[ErasedLearner]) -> None:
        """Delete these erasures, unless the learner was erased again."""

    async def count_published(self) -> int:
        """How many learners the topic has."""

    async def wait_for_changes(self) -> None:
        """Wait until something may be due, or for a moment. Raises `Unavailable`."""


class ErasedEvents(Protocol):
    """Knows which events belong to erased learners."""

    async def find_erased(self, events: Mapping[EventKey, RecordedEvent]) -> Collection[EventKey]:
        """The events among these that are erased."""


# -- usage ---------------------------------------------------------------------------------------------------------


class UsageMeter(Protocol):
    """Counts launches. `incarnation` names the topic that they are read from."""

    async def positions(self, incarnation: str, partitions: Sequence[int]) -> Mapping[int, int]:
        """The offset to read next in each partition of the topic. A recreated topic begins at its start."""

    async def count(self, incarnation: str, moves: Sequence[OffsetRange], batch: LaunchBatch) -> NewLaunches | None:
        """Count the launches of these ranges, in one transaction with the new positions.

        Returns how many are new. If the positions are not those of `moves`, changes nothing and returns None. Raises
        `RowRefused` for a launch that the database does not accept.
        """


class UnknownAccounts(Protocol):
    """The last accounts that events named but that do not exist."""

    async def find_existing(self, account_ids: Sequence[str]) -> Collection[str]:
        """The accounts among these that exist."""

    async def add(self, unknown_accounts: Sequence[UnknownAccount]) -> None:
        """Add to the stored figures of these accounts. Only the newest are kept."""


class OutgoingEvents(Protocol):
    """This system's own events that the broker has not acknowledged yet."""

    async def list_due(self, limit: int) -> Sequence[OutgoingEvent]:
        """The events to send, oldest first."""

    async def wait(self) -> None:
        """Return when there may be an event, after a second at the latest."""

    async def remove(self, ids: Sequence[str]) -> None:
        """Forget events that the broker acknowledged."""


# -- mails ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueMails:
    """Mails that are sent as one, with their recipients."""

    mails: Sequence[Mail]
    emails: tuple[str, ...]


# -- work that failed ----------------------------------------------------------------------------------------------


class FailedWorkLog(Protocol):
    """The work that failed because of its row, for operators to read."""

    async def note(self, failed_work: FailedWork) -> None:
        """Store a failure in place of an earlier one of the same work."""

    async def remove(self, kind: WorkKind, work_id: str) -> None:
        """Forget work that succeeded."""


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
    COURSE_SESSIONS = auto()
    COMMIT_URLS = auto()
    ERASURES = auto()
    API_KEYS = auto()
    WEBHOOKS = auto()


class Backlogs(Protocol):
    """The waiting work of the whole deployment."""

    async def read(self) -> Backlog:
        """Read the backlog. Raises `Unavailable`."""


class PruneResult(NamedTuple):
    """The rows that were deleted, the age of the youngest, and the seconds of the statements.

    `reached` is None if no row was deleted, or if rows of the kind are not deleted in the order of their ages.
    """

    rows: int
    reached: datetime | None
    seconds: float


class Pruning(Protocol):
    """Deletes old rows."""

    # Whether nothing else writes during a transaction.
    is_only_writer: bool

    async def prune(
        self, prunable: Prunable, cutoff: datetime, limit: int, since: datetime | None = None
    ) -> PruneResult:
        """Delete up to `limit` rows in one transaction, the oldest first.

        `since` is where the last portion ended, because the entries of its rows are still in the index.
        Deliveries are deleted when they are delivered, discarded or failed, with their attempts and events; deleted
        webhooks with their secrets, health and pauses, when their tombstone is published and no delivery is left.
        """

    async def oldest_time(self, prunable: Prunable, cutoff: datetime) -> datetime | None:
        """The age of the oldest row that could be deleted; None if there is none."""
