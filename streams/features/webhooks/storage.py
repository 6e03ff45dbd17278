"""Store webhooks and their changes."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.engine.keyset import read_page
from streams.adapters.sql.tables.deliveries import pauses, webhooks
from streams.adapters.sql.webhooks.account_limits import require_row_limit, require_webhook_limits
from streams.adapters.sql.webhooks.dirty_webhooks import mark_webhook_dirty, next_version
from streams.adapters.sql.webhooks.webhook_rows import LIST_COLUMNS, from_registration, to_listed, to_registration
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.held import HeldChoice
from streams.core.page import Cursor, Page
from streams.core.webhooks.webhook import ListedWebhook, Pause, Registration, Status, Webhook
from streams.features.shared.audit_trail import new_entry
from streams.ports.runtime import Clock

_TOO_MANY_MESSAGE = "the account has {count} webhooks, and may have at most {limit}: delete one first"


class SqlWebhooks:
    """`Webhooks` in SQL. A change raises `WrongKeys` if this process has the wrong encryption keys."""

    def __init__(self, database: Database, clock: Clock, keys: SqlEncryptionCheck | None = None) -> None:
        self._database = database
        self._clock = clock
        self._keys = keys

    async def add(
        self, registration: Registration, audit_entry: AuditEntry | None = None, limit: int | None = None
    ) -> Registration:
        version = next_version(0, self._clock.now())
        registration = replace(registration, webhook=replace(registration.webhook, version=version))
        async with self._transaction() as connection:
            if limit is not None:
                is_live = webhooks.c.deleted_at.is_(None)
                await require_row_limit(
                    connection, registration.webhook.account_id, webhooks, is_live, limit, _TOO_MANY_MESSAGE
                )
            await require_webhook_limits(connection, registration.webhook)
            await connection.execute(insert(webhooks).values(from_registration(registration)))
            await mark_webhook_dirty(connection, registration.webhook.id, version)
            if (pause := registration.webhook.pause) is not None:
                await _record_pause(connection, registration.webhook.id, pause, registration.created_at)
            await write_entry(connection, audit_entry)
        return registration

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction, which stores nothing that the other processes cannot decrypt."""
        async with self._database.transaction() as connection:
            if self._keys is not None:
                await self._keys.verify_in(connection)
            yield connection

    async def list(self, account_id: str | None = None) -> Sequence[ListedWebhook]:
        query = (
            select(*LIST_COLUMNS).where(webhooks.c.deleted_at.is_(None)).order_by(webhooks.c.created_at, webhooks.c.id)
        )
        if account_id is not None:
            query = query.where(webhooks.c.account_id == account_id)
        return [to_listed(row) for row in await self._database.rows(query)]

    async def page(
        self, account_id: str | None, cursor: Cursor | None, limit: int, status: Status | None = None
    ) -> Page[ListedWebhook]:
        query = select(*LIST_COLUMNS).where(webhooks.c.deleted_at.is_(None))
        if account_id is not None:
            query = query.where(webhooks.c.account_id == account_id)
        if status is not None:
            query = query.where(webhooks.c.status == status)
        place = webhooks.c.created_at, webhooks.c.id
        async with self._database.read_transaction() as connection:
            return await read_page(
                connection, query, *place, cursor, limit, to_listed, lambda webhook: webhook.json_bytes
            )

    async def find_many(self, account_id: str, webhook_ids: Collection[str]) -> Sequence[ListedWebhook]:
        query = select(*LIST_COLUMNS).where(webhooks.c.account_id == account_id, webhooks.c.id.in_(webhook_ids))
        return [to_listed(row) for row in await self._database.rows(query)]

    async def find(self, webhook_id: str) -> Registration | None:
        condition = (webhooks.c.id == webhook_id) & webhooks.c.deleted_at.is_(None)
        row = await self._database.row(select(webhooks).where(condition))
        return to_registration(row) if row else None

    async def change(
        self,
        webhook_id: str,
        change: Callable[[Registration], Registration | None],
        held_choice: HeldChoice = HeldChoice.DELIVER,
        audit: Callable[[Registration, Registration | None], AuditEntry] | None = None,
    ) -> Registration | None:
        now = self._clock.now()
        condition = (webhooks.c.id == webhook_id) & webhooks.c.deleted_at.is_(None)
        async with self._transaction() as connection:
            row = (await connection.execute(select(webhooks).where(condition).with_for_update())).one_or_none()
            if row is None:
                return None
            previous = to_registration(row)
            updated = change(previous)
            if updated == previous:
                return previous
            if updated is not None:
                await require_webhook_limits(connection, updated.webhook, previous.webhook)
            version = next_version(row.version, now)
            kept_webhook = updated or previous
            kept_webhook = replace(kept_webhook, webhook=replace(kept_webhook.webhook, version=version))
            deletion = {} if updated else {"deleted_at": now}
            await connection.execute(
                update(webhooks).where(condition).values(**from_registration(kept_webhook), **deletion)
            )
            await mark_webhook_dirty(connection, webhook_id, version)
            await _record_pauses(connection, previous.webhook, updated.webhook if updated else None, held_choice, now)
            await write_entry(connection, audit(previous, updated) if audit else None)
        return kept_webhook

    async def delete_again(self, tombstones: Mapping[str, int]) -> int:
        """Delete the webhooks whose deletion only the topic knows: the database was restored from an older dump.

        `tombstones` has the version of each deletion. A version just above the webhook's own is not a person's
        deletion: `publish --reconcile` wrote it for a webhook that another dump lacked. Returns how many are deleted.
        """
        live = select(webhooks.c.id, webhooks.c.version).where(webhooks.c.deleted_at.is_(None))
        ids = [row.id for row in await self._database.rows(live) if tombstones.get(row.id, 0) > row.version + 1]
        for webhook_id in ids:
            await self.change(webhook_id, lambda _: None, audit=self._audit_deletion_after_restore)
        return len(ids)

    def _audit_deletion_after_restore(self, previous: Registration, updated: Registration | None) -> AuditEntry:
        webhook = previous.webhook
        return new_entry(self._clock, "publish", "webhook.deleted", webhook.id, webhook.account_id, reason="restored")

    async def expired(self, limit: int, excluded: Collection[str] = ()) -> Sequence[str]:
        is_expired = (webhooks.c.expires_at <= self._clock.now()) & webhooks.c.deleted_at.is_(None)
        query = select(webhooks.c.id).where(is_expired, webhooks.c.id.not_in(excluded)).limit(limit)
        return [row.id for row in await self._database.rows(query)]

    async def delete_expired(self, webhook_id: str) -> None:
        now = self._clock.now()
        await self.change(webhook_id, lambda known: known if _is_alive(known, now) else None, audit=self._audit_expiry)

    def _audit_expiry(self, previous: Registration, updated: Registration | None) -> AuditEntry:
        webhook = previous.webhook
        return new_entry(self._clock, "publish", "webhook.deleted", webhook.id, webhook.account_id, reason="expired")


def _is_alive(registration: Registration, now: datetime) -> bool:
    """Whether a reader of a temporary webhook has pulled meanwhile."""
    return registration.expires_at is None or registration.expires_at > now


async def _record_pauses(
    connection: AsyncConnection, previous: Webhook, updated: Webhook | None, held_choice: HeldChoice, now: datetime
) -> None:
    """Record the pause that ends, with the choice for its held deliveries, and the pause that begins."""
    old_pause, begun_pause = previous.pause, updated.pause if updated else None
    if old_pause is not None and (begun_pause is None or begun_pause.id != old_pause.id):
        end_statement = update(pauses).where(pauses.c.id == old_pause.id).values(ended_at=now, choice=held_choice)
        await connection.execute(end_statement)
    if begun_pause is not None and (old_pause is None or begun_pause.id != old_pause.id):
        await _record_pause(connection, previous.id, begun_pause, now)


async def _record_pause(connection: AsyncConnection, webhook_id: str, pause: Pause, now: datetime) -> None:
    await connection.execute(
        insert(pauses).values(id=pause.id, webhook_id=webhook_id, reason=pause.reason, began_at=now)
    )
