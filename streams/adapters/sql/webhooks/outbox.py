"""The outbox of changed webhooks, and the leases of stages."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, case, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.row_watch import RowWatch
from streams.adapters.sql.tables.deliveries import dirty_webhooks, leases, webhooks
from streams.adapters.sql.webhooks.dirty_webhooks import mark_webhook_dirty, next_version
from streams.adapters.sql.webhooks.webhook_rows import SCOPE_CHARACTERS, TEXT_CHARACTERS, to_webhook
from streams.core.errors import ROW_ERRORS
from streams.core.failed_work import error_text
from streams.core.page import page_size
from streams.core.webhooks.health import epoch_after_restore
from streams.core.webhooks.subscription_record import max_version
from streams.core.webhooks.subscriptions_table import PROPAGATION_SECONDS
from streams.ports.runtime import Clock
from streams.ports.webhooks import DueChange, FailedChange, FailedChanges

LEASE_SECONDS = 15.0
# The publisher may not have read back a younger record.
MAX_READ_BACK_DELAY = timedelta(seconds=10)
# The size of webhooks in memory at once: seven of the largest.
MAX_BATCH_CHARACTERS = 2_000_000
# The number of webhook states in memory at once: 20 ms of this process's time.
COMPARE_BATCH_ROWS = 5000


class SqlOutbox:
    """An `Outbox` and a `PublicationStatus`."""

    propagation_seconds = PROPAGATION_SECONDS

    def __init__(self, database: Database, clock: Clock, *, max_batch_characters: int = MAX_BATCH_CHARACTERS) -> None:
        self._database = database
        self._clock = clock
        self._max_batch_characters = max_batch_characters
        self._watch = RowWatch(database, dirty_webhooks)

    async def reconcile(self, versions: Mapping[str, int], tombstones: Mapping[str, int] | None) -> Sequence[str]:
        unknown_ids, last_id = set(versions), ""
        while ids := await self.reconcile_next(last_id, versions.get, tombstones):
            unknown_ids.difference_update(ids)
            last_id = ids[-1]
        return sorted(unknown_ids)

    async def reconcile_next(
        self, after_id: str, version_of: Callable[[str], int | None], tombstones: Mapping[str, int] | None
    ) -> Sequence[str]:
        async with self._database.transaction() as connection:
            rows = (
                await connection.execute(_SELECT_VERSIONS.where(webhooks.c.id > after_id).limit(COMPARE_BATCH_ROWS))
            ).all()
            for row in rows:
                await self._compare(connection, row, version_of(row.id), tombstones)
        return [row.id for row in rows]

    async def _compare(
        self, connection: AsyncConnection, row: Any, version_on_topic: int | None, tombstones: Mapping[str, int] | None
    ) -> None:
        if version_on_topic == (None if row.deleted_at is not None else row.version):
            return
        tombstone = (tombstones or {}).get(row.id, 0)
        newest_version = max(version_on_topic or 0, tombstone)
        if row.version > max_version(self._clock.now()):
            await self._reset_version(connection, row, newest_version)
            return
        can_be_remembered = tombstones is not None and self._was_published(row)
        is_missing_on_topic = version_on_topic is None and (tombstone == row.version or can_be_remembered)
        await self._make_due(
            connection, row, newest_version, is_behind=newest_version > row.version or is_missing_on_topic
        )

    async def restart_health(self) -> None:
        now, columns = self._clock.now(), webhooks.c
        is_live = columns.deleted_at.is_(None)
        next_epoch = {
            "version": _max_of(columns.version + 1, next_version(0, now)),
            "health_epoch": _max_of(columns.health_epoch + 1, epoch_after_restore(now)),
        }
        insertion = insert(dirty_webhooks).from_select(
            ["webhook_id", "version"], select(columns.id, columns.version).where(is_live)
        )
        async with self._database.transaction() as connection:
            await connection.execute(select(columns.id).where(is_live).order_by(columns.id).with_for_update())
            await connection.execute(update(webhooks).where(is_live).values(next_epoch))
            await connection.execute(
                insertion.on_conflict_do_update(
                    index_elements=[dirty_webhooks.c.webhook_id], set_={"version": insertion.excluded.version}
                )
            )

    async def mark_dirty(self, newest_versions: Mapping[str, int]) -> None:
        async with self._database.transaction() as connection:
            for row in (await connection.execute(_SELECT_VERSIONS.where(webhooks.c.id.in_(newest_versions)))).all():
                await self._make_due(
                    connection, row, newest_versions[row.id], is_behind=newest_versions[row.id] > row.version
                )

    async def _make_due(self, connection: AsyncConnection, row: Any, newest: int, *, is_behind: bool) -> None:
        """Make a webhook due. First raises its version if the topic may already have an equally new one."""
        version = row.version
        if is_behind:
            version = next_version(max(version, newest), self._clock.now())
            # A change has meanwhile made a newer version due.
            is_row = (webhooks.c.id == row.id) & (webhooks.c.version == row.version)
            if not (await connection.execute(update(webhooks).where(is_row).values(version=version))).rowcount:
                return
        await mark_webhook_dirty(connection, row.id, version)

    async def _reset_version(self, connection: AsyncConnection, row: Any, newest: int) -> None:
        """Replace a version from a clock that was far ahead, which no stage accepts, by a current one."""
        version = next_version(newest, self._clock.now())
        is_row = (webhooks.c.id == row.id) & (webhooks.c.version == row.version)
        if (await connection.execute(update(webhooks).where(is_row).values(version=version))).rowcount:
            await connection.execute(delete(dirty_webhooks).where(dirty_webhooks.c.webhook_id == row.id))
            await mark_webhook_dirty(connection, row.id, version)

    def _was_published(self, row: Any) -> bool:
        """Whether the topic had the webhook: a stage may remember a tombstone that compaction has removed."""
        return row.published_at is not None and row.published_at < self._clock.now() - MAX_READ_BACK_DELAY

    async def list_due(
        self,
        limit: int,
        refused_versions: Mapping[str, int] | None = None,
        failed_changes: FailedChanges = None,
    ) -> Sequence[DueChange]:
        refused_versions = refused_versions or {}
        oldest_first = (
            select(webhooks.c.id, webhooks.c.version, (SCOPE_CHARACTERS + TEXT_CHARACTERS).label("characters"))
            .join(dirty_webhooks, dirty_webhooks.c.webhook_id == webhooks.c.id)
            .order_by(dirty_webhooks.c.version)
            .limit(limit + len(refused_versions))
        )
        async with self._database.read_transaction() as connection:
            due_rows = [
                row for row in await connection.execute(oldest_first) if refused_versions.get(row.id) != row.version
            ]
            count = page_size((row.characters for row in due_rows), limit, self._max_batch_characters)
            ids = [row.id for row in due_rows[:count]]
            rows = {row.id: row for row in await connection.execute(select(webhooks).where(webhooks.c.id.in_(ids)))}
        changes = []
        for row in (rows[webhook_id] for webhook_id in ids if webhook_id in rows):
            try:
                changes.append(_to_due_change(row))
            except ROW_ERRORS as error:
                if failed_changes is None:
                    raise
                failed_changes.append(FailedChange(row.id, row.version, row.account_id, error_text(error)))
        return changes

    async def mark_published(self, appended_webhooks: Sequence[tuple[DueChange, datetime]]) -> None:
        if not appended_webhooks:
            return
        sorted_changes = sorted(appended_webhooks, key=lambda pair: pair[0].webhook_id)
        rows = [
            {"which": change.webhook_id, "what": change.version, "since": since} for change, since in sorted_changes
        ]
        # A change locks the webhook's row before its outbox row. Another order could deadlock.
        async with self._database.transaction() as connection:
            await connection.execute(_SET_FIRST_PUBLISHED, rows)
            await connection.execute(_DELETE_DIRTY, rows)

    async def wait_for_changes(self) -> None:
        await self._watch.wait()

    async def is_published(self, webhook_id: str) -> bool:
        query = select(dirty_webhooks.c.version).where(dirty_webhooks.c.webhook_id == webhook_id)
        return await self._database.row(query) is None


def _to_due_change(row: Any) -> DueChange:
    return DueChange(row.id, row.version, None if row.deleted_at else to_webhook(row))


def _max_of(value: ColumnElement[int], minimum: int) -> ColumnElement[int]:
    return case((value > minimum, value), else_=minimum)


# In id order, as every transaction locks them.
_SELECT_VERSIONS = select(webhooks.c.id, webhooks.c.version, webhooks.c.deleted_at, webhooks.c.published_at).order_by(
    webhooks.c.id
)
_SET_FIRST_PUBLISHED = (
    update(webhooks)
    .where(webhooks.c.id == bindparam("which"), webhooks.c.published_at.is_(None))
    .values(published_at=bindparam("since"))
)
_DELETE_DIRTY = delete(dirty_webhooks).where(
    dirty_webhooks.c.webhook_id == bindparam("which"), dirty_webhooks.c.version <= bindparam("what")
)


class SqlLease:
    """A `ProcessLease`: a row that expires unless its holder renews it.

    PostgreSQL's own clock decides: a process with a fast clock would hold the lease too long after its death.
    A busy pool does not delay a renewal.
    """

    def __init__(self, database: Database, clock: Clock, name: str, holder: str) -> None:
        self._database = database
        self._clock = clock
        self._name = name
        self._holder = holder

    async def renew(self) -> bool:
        now: Any = self._clock.now() if self._database.is_sqlite else func.now()
        expires_at = now + timedelta(seconds=LEASE_SECONDS)
        statement = insert(leases).values(name=self._name, holder=self._holder, expires_at=expires_at)
        statement = statement.on_conflict_do_update(
            index_elements=[leases.c.name],
            set_={"holder": self._holder, "expires_at": expires_at},
            where=or_(leases.c.holder == self._holder, leases.c.expires_at < now),
        )
        async with self._database.separate_transaction() as connection:
            result = await connection.execute(statement.returning(leases.c.holder))
            return result.first() is not None

    async def release(self) -> None:
        async with self._database.separate_transaction() as connection:
            await connection.execute(delete(leases).where(leases.c.name == self._name, leases.c.holder == self._holder))
