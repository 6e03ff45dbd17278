"""Delete rows at the end of their retention, the oldest first, a portion in each transaction."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, delete, exists, func, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.event_metadata import delete_metadata
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.many_keys import in_pairs, is_one_of
from streams.adapters.sql.tables.accounts import (
    api_keys,
    audit_log,
    idempotency_keys,
    jobs,
    mails,
    pending_sign_ins,
    sessions,
    sign_ins,
)
from streams.adapters.sql.tables.course_sessions import commit_urls, course_sessions, player_states
from streams.adapters.sql.tables.deliveries import (
    IS_DONE,
    IS_NOT_DELIVERED,
    attempts,
    deliveries,
    dirty_webhooks,
    events,
    hourly_attempts,
    pauses,
    response_times,
    webhook_health,
    webhooks,
)
from streams.adapters.sql.tables.erasures import erasures
from streams.adapters.sql.tables.usage import counted_launches
from streams.core.accounts.usage import month_of
from streams.core.deliveries.delivery import State
from streams.ports.storage import Prunable, PruneResult


class SqlPruning:
    """`Pruning` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.is_only_writer = database.is_sqlite

    async def prune(
        self, prunable: Prunable, cutoff: datetime, limit: int, since: datetime | None = None
    ) -> PruneResult:
        kind = _KINDS[prunable]
        async with self._database.transaction() as connection:
            started_at = time.monotonic()
            await _prefer_indexes(connection, is_in_order=True)
            ages = await kind.delete(connection, kind, kind.select_oldest(cutoff, limit, since))
            seconds = time.monotonic() - started_at
        reached_at = kind.to_time(max(ages)) if ages and kind.is_in_order else None
        return PruneResult(len(ages), reached_at, seconds)

    async def oldest_time(self, prunable: Prunable, cutoff: datetime) -> datetime | None:
        kind = _KINDS[prunable]
        query = select(func.min(kind.age)).where(kind.is_old(cutoff, None))
        moment = await self._database.scalar(query)
        return None if moment is None else kind.to_time(moment)


async def _delete(connection: AsyncConnection, kind: "_Kind", rows_to_delete: Select[Any]) -> Sequence[Any]:
    """Delete rows to which nothing else belongs. Returns their ages."""
    keys = kind.keys
    deletion = (
        delete(kind.age.table).where(tuple_(*keys).in_(rows_to_delete.with_only_columns(*keys))).returning(kind.age)
    )
    return (await connection.scalars(deletion)).all()


async def _delete_deliveries(connection: AsyncConnection, kind: "_Kind", rows_to_delete: Select[Any]) -> Sequence[Any]:
    """Delete deliveries with their attempts, and events without any other delivery."""
    delivery_columns = deliveries.c
    columns = (delivery_columns.id, delivery_columns.account_id, delivery_columns.event_id, kind.age.label("age"))
    rows = (
        await connection.execute(rows_to_delete.with_only_columns(*columns).with_for_update(skip_locked=True))
    ).all()
    if not rows:
        return []
    ids = [row.id for row in rows]
    pairs = sorted({(row.account_id, row.event_id) for row in rows})
    is_event_of_rows = in_pairs(connection, (events.c.account_id, events.c.event_id), pairs)
    await _prefer_indexes(connection, is_in_order=False)
    # This waits for a backfill that adds deliveries of these events: the last query then sees them.
    lock = select(events.c.event_id).where(is_event_of_rows).order_by(events.c.account_id, events.c.event_id)
    await connection.execute(lock.with_for_update())
    await connection.execute(delete(attempts).where(is_one_of(connection, attempts.c.delivery_id, ids)))
    await connection.execute(delete(deliveries).where(is_one_of(connection, delivery_columns.id, ids)))
    is_referenced = exists().where(
        delivery_columns.account_id == events.c.account_id, delivery_columns.event_id == events.c.event_id
    )
    deletion = delete(events).where(is_event_of_rows, ~is_referenced).returning(events.c.account_id, events.c.event_id)
    if deleted_events := (await connection.execute(deletion)).all():
        await delete_metadata(connection, [(row.account_id, row.event_id) for row in deleted_events])
    return [row.age for row in rows]


async def _delete_course_sessions(
    connection: AsyncConnection, kind: "_Kind", rows_to_delete: Select[Any]
) -> Sequence[Any]:
    """Delete SCORM sessions with the states of their players."""
    keys, states = kind.keys, player_states.c
    deletion = delete(course_sessions).where(tuple_(*keys).in_(rows_to_delete)).returning(*keys, kind.age.label("age"))
    rows = (await connection.execute(deletion)).all()
    if pairs := [(row.account_id, row.id) for row in rows]:
        is_state_of_rows = in_pairs(connection, (states.account_id, states.session_id), pairs)
        await connection.execute(delete(player_states).where(is_state_of_rows))
    return [row.age for row in rows]


async def _delete_webhooks(connection: AsyncConnection, kind: "_Kind", rows_to_delete: Select[Any]) -> Sequence[Any]:
    """Delete deleted webhooks with their health and pauses. A webhook that `record` is writing to stays."""
    columns = (webhooks.c.id, kind.age.label("age"))
    rows = (
        await connection.execute(rows_to_delete.with_only_columns(*columns).with_for_update(skip_locked=True))
    ).all()
    ids = [row.id for row in rows]
    for name in (webhook_health.c.webhook_id, pauses.c.webhook_id, webhooks.c.id):
        await connection.execute(delete(name.table).where(is_one_of(connection, name, ids)))
    return [row.age for row in rows]


async def _prefer_indexes(connection: AsyncConnection, *, is_in_order: bool) -> None:
    """Make the planner look up each row, in this transaction: its statistics may be older than these rows.

    With `is_in_order` it also reads an index instead of sorting, which is wrong for the few rows that will be locked.
    """
    if connection.dialect.name == "postgresql":
        values = {"seqscan": "off", "hashjoin": "off", "mergejoin": "off", "sort": "off" if is_in_order else "on"}
        settings = ", ".join(f"set_config('enable_{name}', '{value}', true)" for name, value in values.items())
        await connection.execute(text(f"SELECT {settings}"))


def _identity(moment: datetime) -> datetime:
    return moment


def _end_of_month(month: str) -> datetime:
    """The last moment of a month, at which its rows begin to age."""
    year, number = map(int, month.split("-"))
    first_of_next = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    return first_of_next - timedelta(microseconds=1)


class _Kind(NamedTuple):
    """How to find old rows of a kind: by the column that shows their age, and by other conditions."""

    age: Any
    where: ColumnElement[bool] | None = None
    # False if no index has this order, and there may be many rows.
    is_in_order: bool = True
    to_column: Callable[[datetime], Any] = _identity
    to_time: Callable[[Any], datetime] = _identity
    delete: Callable[[AsyncConnection, "_Kind", Select[Any]], Any] = _delete

    @property
    def keys(self) -> Sequence[ColumnElement[Any]]:
        return list(self.age.table.primary_key.columns)

    def is_old(self, cutoff: datetime, since: datetime | None) -> ColumnElement[bool]:
        is_old_row: ColumnElement[bool] = self.age < self.to_column(cutoff)
        if since is not None:
            is_old_row &= self.age >= self.to_column(since)
        return is_old_row if self.where is None else is_old_row & self.where

    def select_oldest(self, cutoff: datetime, limit: int, since: datetime | None) -> Select[Any]:
        query = select(*self.keys).where(self.is_old(cutoff, since)).limit(limit)
        return query.order_by(self.age) if self.is_in_order else query


_HAS_DELIVERY = exists().where(deliveries.c.webhook_id == webhooks.c.id)
_IS_DIRTY = exists().where(dirty_webhooks.c.webhook_id == webhooks.c.id)
_IS_DEAD = IS_NOT_DELIVERED & (deliveries.c.state == State.DEAD)
_KINDS: dict[Prunable, _Kind] = {
    Prunable.DELIVERIES: _Kind(deliveries.c.changed_at, IS_DONE, delete=_delete_deliveries),
    Prunable.DEAD_LETTERS: _Kind(deliveries.c.changed_at, _IS_DEAD, is_in_order=False, delete=_delete_deliveries),
    Prunable.AUDIT: _Kind(audit_log.c.at),
    Prunable.RESPONSES: _Kind(idempotency_keys.c.begun_at),
    Prunable.ATTEMPTS_BY_HOUR: _Kind(hourly_attempts.c.hour),
    Prunable.RESPONSE_TIMES: _Kind(response_times.c.hour),
    Prunable.JOBS: _Kind(jobs.c.finished_at),
    Prunable.MAILS: _Kind(mails.c.created_at, mails.c.due_at.is_(None)),
    Prunable.SIGN_INS: _Kind(sign_ins.c.expires_at),
    Prunable.COUNTED_LAUNCHES: _Kind(counted_launches.c.month, to_column=month_of, to_time=_end_of_month),
    Prunable.PENDING_SIGN_INS: _Kind(pending_sign_ins.c.expires_at),
    Prunable.COURSE_SESSIONS: _Kind(
        course_sessions.c.expires_at,
        course_sessions.c.score_due_at.is_(None) & course_sessions.c.end_due_at.is_(None),
        delete=_delete_course_sessions,
    ),
    Prunable.COMMIT_URLS: _Kind(commit_urls.c.expires_at),
    Prunable.ERASURES: _Kind(erasures.c.finished_at),
    # A key without an end is kept until an owner removes it.
    Prunable.API_KEYS: _Kind(api_keys.c.expires_at),
    Prunable.SESSIONS: _Kind(sessions.c.expires_at),
    Prunable.WEBHOOKS: _Kind(webhooks.c.deleted_at, ~_HAS_DELIVERY & ~_IS_DIRTY, delete=_delete_webhooks),
}
