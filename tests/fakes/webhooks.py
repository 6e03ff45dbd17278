"""Webhooks, the outbox of their changes, and the publisher's lease, in memory."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count as counting

from builders import NOON
from fakes.clock import FakeClock
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.held import HeldChoice
from streams.core.errors import Conflict, RowRefused, Unavailable
from streams.core.limits import MAX_LIST_BYTES
from streams.core.page import Cursor, Page, page_size
from streams.core.webhooks.health import epoch_after_restore
from streams.core.webhooks.webhook import ListedWebhook, Registration, Status, Webhook
from streams.ports.webhooks import DueChange, FailedChanges

ROWS_AT_ONCE = 1000


class FakeOutbox:
    """`Webhooks`, `Outbox` and `PublicationStatus`; each change raises a version."""

    propagation_seconds = 0.0

    def __init__(self, rows_at_once: int | None = None, clock: FakeClock | None = None) -> None:
        self._rows_at_once = rows_at_once
        self.clock = clock or FakeClock()
        self._stored: dict[str, Registration] = {}
        self._deleted: set[str] = set()
        self._published: dict[str, datetime] = {}
        self._dirty: dict[str, int] = {}
        self._versions = counting(1)
        self._changed = asyncio.Event()
        # By pause: the choice for its held deliveries; None during the pause.
        self.pauses: dict[str, HeldChoice | None] = {}
        self.audit_trail: list[AuditEntry] = []
        self.away = False
        # The ids of each comparison.
        self.compared: list[Sequence[str]] = []

    def wake(self) -> None:
        """End the wait for changes, as time does."""
        self._changed.set()

    def put(self, webhook: Webhook) -> None:
        """Add or change the webhook."""
        known = self._stored.get(webhook.id)
        self._store(replace(known, webhook=webhook) if known else Registration(webhook, NOON))

    def put_registration(self, registration: Registration) -> None:
        """Store what people see of a webhook too, such as the time of its next probe."""
        self._store(registration)

    def set_probe_at(self, webhook_id: str, at: datetime) -> None:
        """Set when a probe is due, which is not on the topic."""
        self._stored[webhook_id] = replace(self._stored[webhook_id], probe_at=at)

    def set_version(self, webhook_id: str, version: int) -> None:
        """Set a version as a wrong clock would."""
        stored = self._stored[webhook_id]
        self._stored[webhook_id] = replace(stored, webhook=replace(stored.webhook, version=version))
        self._dirty[webhook_id] = version

    def remove(self, webhook_id: str) -> None:
        self._deleted.add(webhook_id)
        self._store(self._stored[webhook_id])

    def can_take(self, webhook_id: str) -> bool:
        """Whether its held deliveries may leave: it is active or deleted, and its newest version is published."""
        live = self.live(webhook_id)
        return webhook_id not in self._dirty and (live is None or live.webhook.status is Status.ACTIVE)

    def is_dirty(self, webhook_id: str) -> bool:
        """Whether its newest version is not published yet."""
        return webhook_id in self._dirty

    def live_ids(self) -> set[str]:
        return self._stored.keys() - self._deleted

    def has_ended(self, webhook_id: str) -> bool:
        """Whether it was temporary, and is deleted."""
        return webhook_id in self._deleted and self._stored[webhook_id].expires_at is not None

    def live(self, webhook_id: str) -> Registration | None:
        return None if webhook_id in self._deleted else self._stored.get(webhook_id)

    # -- webhooks ----------------------------------------------------------------------------------------------

    async def add(
        self, registration: Registration, audit_entry: AuditEntry | None = None, limit: int | None = None
    ) -> Registration:
        self._check()
        if limit is not None and len(await self.list(registration.webhook.account_id)) >= limit:
            raise Conflict(f"at most {limit} webhooks")
        if registration.webhook.id in self._stored:
            raise RowRefused("a webhook with this id exists")
        self._note(audit_entry)
        return self._store(registration)

    async def list(self, account_id: str | None = None) -> Sequence[ListedWebhook]:
        self._check()
        live = [found for webhook_id in self._stored if (found := self.live(webhook_id))]
        wanted = [found for found in live if account_id in (None, found.webhook.account_id)]
        return sorted((found.listed_webhook for found in wanted), key=lambda found: (found.created_at, found.id))

    async def page(
        self, account_id: str | None, after: Cursor | None, limit: int, status: Status | None = None
    ) -> Page[ListedWebhook]:
        newest_first = [found for found in await self.list(account_id) if status in (None, found.status)][::-1]
        at = [Cursor(found.created_at, found.id) for found in newest_first]
        begin = sum((cursor.at, cursor.id) >= (after.at, after.id) for cursor in at) if after else 0
        limit = page_size((found.json_bytes for found in newest_first[begin:]), limit, MAX_LIST_BYTES)
        rows = newest_first[begin : begin + limit]
        return Page(rows, at[begin + limit - 1] if len(at) > begin + limit else None)

    async def find_many(self, account_id: str, webhook_ids: Collection[str]) -> Sequence[ListedWebhook]:
        return [found for found in await self.list(account_id) if found.id in webhook_ids]

    async def find(self, webhook_id: str) -> Registration | None:
        self._check()
        return self.live(webhook_id)

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held: HeldChoice = HeldChoice.DELIVER,
        audit: Callable[[Registration, Registration | None], AuditEntry] | None = None,
    ) -> Registration | None:
        self._check()
        before = self.live(webhook_id)
        if before is None:
            return None
        after = change(before)
        if after == before:
            return before
        if after is None:
            self._deleted.add(webhook_id)
        self._note(audit(before, after) if audit else None)
        return self._store(after or before, held)

    async def expired(self, limit: int, excluded: Collection[str] = ()) -> Sequence[str]:
        self._check()
        now, live = self.clock.now(), self.live_ids() - set(excluded)
        return sorted(name for name in live if (at := self._stored[name].expires_at) and at <= now)[:limit]

    async def delete_expired(self, webhook_id: str) -> None:
        self._check()
        self.remove(webhook_id)

    # -- the outbox -------------------------------------------------------------------------------------------

    async def reconcile(self, versions: Mapping[str, int], tombstones: Mapping[str, int] | None) -> Sequence[str]:
        last = ""
        while ids := await self.reconcile_next(last, versions.get, tombstones):
            last = ids[-1]
        return sorted(versions.keys() - self._stored.keys())

    async def reconcile_next(
        self, after: str, version_of: Callable[[str], int | None], tombstones: Mapping[str, int] | None
    ) -> Sequence[str]:
        self._check()
        ids = sorted(webhook_id for webhook_id in self._stored if webhook_id > after)[
            : self._rows_at_once or ROWS_AT_ONCE
        ]
        self.compared.append(ids)
        for webhook_id in ids:
            self._compare(webhook_id, version_of(webhook_id), tombstones or {})
        return ids

    def _compare(self, webhook_id: str, on_topic: int | None, tombstones: Mapping[str, int]) -> None:
        version = self._stored[webhook_id].webhook.version
        if on_topic == (None if webhook_id in self._deleted else version):
            return
        newest = max(on_topic or 0, tombstones.get(webhook_id, 0))
        comes_back = on_topic is None and webhook_id in tombstones
        self._owe(webhook_id, newest, is_behind=newest > version or comes_back)

    async def restart_health(self) -> None:
        self._check()
        for webhook_id, stored in self._stored.items():
            if live := self.live(webhook_id):
                epoch = max(live.webhook.health_epoch + 1, epoch_after_restore(NOON))
                self._store(replace(stored, webhook=replace(live.webhook, health_epoch=epoch)))

    async def mark_dirty(self, newest: Mapping[str, int]) -> None:
        self._check()
        for webhook_id in self._stored.keys() & newest.keys():
            version = self._stored[webhook_id].webhook.version
            self._owe(webhook_id, newest[webhook_id], is_behind=newest[webhook_id] > version)

    def _owe(self, webhook_id: str, newest: int, *, is_behind: bool) -> None:
        stored = self._stored[webhook_id]
        if is_behind:
            stored = replace(stored, webhook=replace(stored.webhook, version=newest + 1))
            self._stored[webhook_id] = stored
        self._dirty[webhook_id] = stored.webhook.version

    async def list_due(
        self,
        limit: int,
        refused: Mapping[str, int] | None = None,
        failed_changes: FailedChanges = None,
    ) -> Sequence[DueChange]:
        self._check()
        oldest_first = sorted(self._dirty, key=lambda webhook_id: self._dirty[webhook_id])
        due = [self._due(webhook_id) for webhook_id in oldest_first]
        return [one for one in due if (refused or {}).get(one.webhook_id) != one.version][:limit]

    async def mark_published(self, appended: Sequence[tuple[DueChange, datetime]]) -> None:
        self._check()
        for due, appended_at in appended:
            self._has_published(due, appended_at)

    def _has_published(self, due: DueChange, appended_at: datetime) -> None:
        if self._dirty.get(due.webhook_id, due.version + 1) <= due.version:
            del self._dirty[due.webhook_id]
        if due.webhook_id not in self._published:
            self._published[due.webhook_id] = appended_at
            stored = self._stored[due.webhook_id]
            self._stored[due.webhook_id] = replace(stored, webhook=replace(stored.webhook, created_at=appended_at))

    async def wait_for_changes(self) -> None:
        await self._changed.wait()
        self._changed.clear()
        self._check()

    async def is_published(self, webhook_id: str) -> bool:
        self._check()
        return webhook_id not in self._dirty

    def _store(self, registration: Registration, held: HeldChoice = HeldChoice.DELIVER) -> Registration:
        webhook_id, version = registration.webhook.id, next(self._versions)
        self._turn_pauses(registration.webhook, held)
        webhook = replace(registration.webhook, version=version, created_at=self._published.get(webhook_id))
        self._stored[webhook_id] = replace(registration, webhook=webhook)
        self._dirty[webhook_id] = version
        self._changed.set()
        return self._stored[webhook_id]

    def _turn_pauses(self, webhook: Webhook, held: HeldChoice) -> None:
        known = self._stored.get(webhook.id)
        old, new = known and known.webhook.pause, webhook.pause
        if old and (new is None or new.id != old.id or webhook.id in self._deleted):
            self.pauses[old.id] = held
        if new and webhook.id not in self._deleted:
            self.pauses.setdefault(new.id, None)

    def _due(self, webhook_id: str) -> DueChange:
        live = self.live(webhook_id)
        return DueChange(webhook_id, self._stored[webhook_id].webhook.version, live.webhook if live else None)

    def _note(self, audit_entry: AuditEntry | None) -> None:
        self.audit_trail += [audit_entry] if audit_entry else []

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away")


@dataclass
class FakeLease:
    """A `ProcessLease` of fifteen seconds; `rival` competes for it."""

    holder: str = "publisher"
    clock: FakeClock = field(default_factory=FakeClock)
    ends: dict[str, datetime] = field(default_factory=dict)
    away: bool = False

    @property
    def held(self) -> bool:
        return self.holder in self.ends

    def rival(self, holder: str = "rival") -> "FakeLease":
        return FakeLease(holder, self.clock, self.ends, self.away)

    async def renew(self) -> bool:
        self._check()
        now = self.clock.now()
        if any(now <= end for holder, end in self.ends.items() if holder != self.holder):
            return False
        self.ends.clear()
        self.ends[self.holder] = now + timedelta(seconds=15)
        return True

    async def release(self) -> None:
        self._check()
        self.ends.pop(self.holder, None)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away")
