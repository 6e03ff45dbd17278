"""Delete rows at the end of their retention, in small batches."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import ColumnElement, Table, delete, exists, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.account_tables import (
    audit_log,
    idempotency_keys,
    jobs,
    mails,
    pending_sign_ins,
    sessions,
    sign_ins,
)
from streams.adapters.sql.course_session_tables import commit_urls, course_sessions
from streams.adapters.sql.database import Database
from streams.adapters.sql.erasure_tables import erasures
from streams.adapters.sql.tables import (
    DONE,
    NOT_DELIVERED,
    attempts,
    deliveries,
    events,
    hourly_attempts,
    response_times,
)
from streams.adapters.sql.usage_tables import counted_launches
from streams.core.delivery import State
from streams.core.usage import month_of
from streams.ports import Prunable


class SqlPruning:
    """`Pruning` in SQL: each call deletes one small batch of one kind."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prune(self, what: Prunable, before: datetime, limit: int) -> int:
        async with self._database.transaction() as connection:
            if what is Prunable.DELIVERIES:
                return await _prune_deliveries(connection, DONE & (deliveries.c.changed_at < before), limit)
            if what is Prunable.DEAD_LETTERS:
                old = NOT_DELIVERED & (deliveries.c.state == State.DEAD) & (deliveries.c.changed_at < before)
                return await _prune_deliveries(connection, old, limit)
            table, aged = _OLD[what](before)
            keys = list(table.primary_key.columns)
            chosen = select(*keys).where(aged).limit(limit)
            gone = await connection.execute(delete(table).where(tuple_(*keys).in_(chosen)))
            return int(gone.rowcount)


async def _prune_deliveries(connection: AsyncConnection, old: ColumnElement[bool], limit: int) -> int:
    """Delete deliveries with their attempts, and events without any other delivery."""
    chosen = select(deliveries.c.id, deliveries.c.account_id, deliveries.c.event_id).where(old).limit(limit)
    rows = (await connection.execute(chosen.with_for_update(skip_locked=True))).all()
    if not rows:
        return 0
    ids = [row.id for row in rows]
    keys = sorted({(row.account_id, row.event_id) for row in rows})
    event_key = tuple_(events.c.account_id, events.c.event_id)
    # Waits for a backfill that adds deliveries of these events: the last query then sees them.
    lock = select(events.c.event_id).where(event_key.in_(keys)).order_by(events.c.account_id, events.c.event_id)
    await connection.execute(lock.with_for_update())
    await connection.execute(delete(attempts).where(attempts.c.delivery_id.in_(ids)))
    await connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))
    known = deliveries.c
    needed = exists().where(known.account_id == events.c.account_id, known.event_id == events.c.event_id)
    await connection.execute(delete(events).where(event_key.in_(keys), ~needed))
    return len(rows)


_OLD: dict[Prunable, Callable[[datetime], tuple[Table, ColumnElement[bool]]]] = {
    Prunable.AUDIT: lambda before: (audit_log, audit_log.c.at < before),
    Prunable.RESPONSES: lambda before: (idempotency_keys, idempotency_keys.c.begun_at < before),
    Prunable.ATTEMPTS_BY_HOUR: lambda before: (hourly_attempts, hourly_attempts.c.hour < before),
    Prunable.RESPONSE_TIMES: lambda before: (response_times, response_times.c.hour < before),
    Prunable.JOBS: lambda before: (jobs, jobs.c.finished_at < before),
    Prunable.MAILS: lambda before: (mails, mails.c.due_at.is_(None) & (mails.c.created_at < before)),
    Prunable.SIGN_INS: lambda before: (sign_ins, sign_ins.c.expires_at < before),
    Prunable.COUNTED_LAUNCHES: lambda before: (counted_launches, counted_launches.c.month < month_of(before)),
    Prunable.PENDING_SIGN_INS: lambda before: (pending_sign_ins, pending_sign_ins.c.expires_at < before),
    Prunable.COURSE_SESSIONS: lambda before: (
        course_sessions,
        (course_sessions.c.expires_at < before) & course_sessions.c.score_due_at.is_(None),
    ),
    Prunable.COMMIT_URLS: lambda before: (commit_urls, commit_urls.c.expires_at < before),
    Prunable.ERASURES: lambda before: (erasures, erasures.c.finished_at < before),
    Prunable.SESSIONS: lambda before: (sessions, sessions.c.expires_at < before),
}
