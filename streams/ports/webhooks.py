"""The SQL storage of webhooks, and counts of them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.held import HeldChoice
from streams.core.page import Cursor, Page
from streams.core.webhooks.webhook import ListedWebhook, Registration, Status, Webhook


class Webhooks(Protocol):
    """The webhooks. Each change marks the webhook as dirty and writes its audit entry, in one transaction."""

    async def add(
        self, registration: Registration, audit_entry: AuditEntry | None = None, limit: int | None = None
    ) -> Registration:
        """Add a webhook. Raises `Conflict` if the account already has `limit` webhooks."""

    async def list(self, account_id: str | None = None) -> Sequence[ListedWebhook]:
        """The webhooks, oldest first."""

    async def page(
        self, account_id: str | None, cursor: Cursor | None, limit: int, status: Status | None = None
    ) -> Page[ListedWebhook]:
        """The webhooks of an account or of all, newest first; with `status`, only webhooks with that status.

        A page ends early when its rows have more than `MAX_LIST_BYTES`.
        """

    async def find_many(self, account_id: str, webhook_ids: Collection[str]) -> Sequence[ListedWebhook]:
        """The account's webhooks among these ids, deleted ones included."""

    async def find(self, webhook_id: str) -> Registration | None: ...

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held_choice: HeldChoice = HeldChoice.DELIVER,
        audit: Callable[[Registration, Registration | None], AuditEntry] | None = None,
    ) -> Registration | None:
        """Apply `change` to the current state and raise the version; if it returns None, delete the webhook.

        `held_choice` decides about the held deliveries of a pause that ends; `audit` makes the entry of a change from
        the states before and after. Returns the stored state, or the last one before a deletion; None if there is no
        such webhook. If `change` raises, nothing is changed.
        """

    async def expired(self, limit: int, excluded: Collection[str] = ()) -> Sequence[str]:
        """The ids of temporary webhooks whose time is over, up to `limit`."""

    async def delete_expired(self, webhook_id: str) -> None:
        """Delete a temporary webhook, unless a reader has pulled meanwhile."""


class PublicationStatus(Protocol):
    """Whether a webhook's newest version is on the topic. The stages have it `propagation_seconds` later."""

    propagation_seconds: float

    async def is_published(self, webhook_id: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class DueChange:
    """A webhook to publish at `version`; `webhook` is None when it was deleted."""

    webhook_id: str
    version: int
    webhook: Webhook | None


@dataclass(frozen=True, slots=True)
class FailedChange:
    """A webhook that is due, but whose row could not be read."""

    webhook_id: str
    version: int
    account_id: str
    error: str


FailedChanges = list[FailedChange] | None


class Outbox(Protocol):
    """The webhooks with a newer version than the topic's."""

    async def reconcile(self, versions: Mapping[str, int], tombstones: Mapping[str, int] | None) -> Sequence[str]:
        """Make webhooks due that differ from the topic's versions, by id. Returns the ids that SQL does not know.

        If SQL has a webhook in no newer version than the topic (after a restore of SQL), it becomes due in a version
        newer than the topic's, its tombstone's and the clock, so that no reader considers it old. `tombstones` is None
        for a topic that never had a record.
        """

    async def reconcile_next(
        self, after_id: str, version_of: Callable[[str], int | None], tombstones: Mapping[str, int] | None
    ) -> Sequence[str]:
        """Compare the next portion of webhooks, by id. Returns their ids; none after the last one."""

    async def restart_health(self) -> None:
        """Give each webhook a health epoch that no attempt has, after a restore of SQL, and make it due."""

    async def mark_dirty(self, newest: Mapping[str, int]) -> None:
        """Make these webhooks due again, in a version not below the topic's, by id. Unknown ids are skipped."""

    async def list_due(
        self,
        limit: int,
        refused: Mapping[str, int] | None = None,
        failed_changes: FailedChanges = None,
    ) -> Sequence[DueChange]:
        """The webhooks that are due longest: up to `limit`, fewer if large, and without the `refused` versions.

        Webhooks that cannot be read are added to `failed_changes`; without it the error is raised.
        """

    async def mark_published(self, appended: Sequence[tuple[DueChange, datetime]]) -> None:
        """Note that these versions are on the topic since these times; a newer version stays due."""

    async def wait_for_changes(self) -> None:
        """Wait until something may be due, or for a moment. Raises `Unavailable`."""
