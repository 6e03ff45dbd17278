"""Lease deliveries to readers, in SQL."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, exists, func, literal, or_, select, true, tuple_, update, values
from sqlalchemy import column as sql_column
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import Text

from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.dialects import insert, is_sqlite
from streams.adapters.sql.engine.keyset import prefer_index_order
from streams.adapters.sql.erasures.erased_events import SqlErasedEvents, accounts_with_erasures
from streams.adapters.sql.tables.deliveries import (
    IS_HELD_FOR_READERS,
    IS_PULLED,
    attempts,
    deliveries,
    events,
    newest_change,
    pauses,
    pull_rates,
    webhooks,
)
from streams.core.deliveries.delivery import Delivery, State, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.delivery_state import RecordedEvent
from streams.core.deliveries.lease import Lease, Leased
from streams.core.events.event import EventSubjects
from streams.core.failed_work import FailedRow, read_rows
from streams.core.limits import MAX_PULL_BYTES
from streams.core.queues.rate import Rate
from streams.core.webhooks.webhook import Status, Webhook
from streams.ports.delivery import Encryption
from streams.ports.runtime import Clock

# Put-aside rows are checked again after this time: the erasure has ended, or a person has repaired the row.
ASIDE_TIME = timedelta(minutes=10)
# A reader may pull a delivery and give it back endlessly: only the last attempts are kept.
KEPT_ATTEMPTS = 20
# A pull skips at most this many portions without a usable row.
MAX_SKIPPED_PORTIONS = 10

_columns = deliveries.c
_LEASED_MESSAGE = "A reader has pulled it, and not acknowledged it yet."
_GIVEN_BACK_MESSAGE = "A reader gave it back. It waits until a reader pulls it."
_SELECT_PULLABLE = select(
    deliveries,
    *(events.c.body, events.c.trace_parent, events.c.hash),
    *(events.c.session_id, events.c.learner_id, events.c.package_id, events.c.dispatch_id),
).join(events, (events.c.account_id == _columns.account_id) & (events.c.event_id == _columns.event_id))


class SqlPulls:
    """The deliveries that wait for readers; `due_at` is when the next reader may lease one."""

    def __init__(self, database: Database, encryption: Encryption, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._erased_events = SqlErasedEvents(encryption)

    async def lease(self, webhook: Webhook, limit: int, duration: timedelta) -> Leased:
        """Lease the oldest deliveries that nobody has, at most `limit` with `MAX_PULL_BYTES` of bodies; one at least.

        Other readers do not wait for this one: they get the next ones. Skips deliveries past the webhook's retention.
        """
        async with self._database.transaction() as connection:
            rate, used_until = webhook.options.rate, 0.0
            if rate is not None:
                used_until = await self._used_until(connection, webhook.id, rate)
            # Now: the transaction may have waited for a connection.
            now = self._clock.now()
            if rate is not None:
                allowed = rate.allowance(used_until, now.timestamp(), limit)
                if not allowed:
                    return Leased(allowed_at=datetime.fromtimestamp(rate.free_at(used_until), UTC))
                limit = allowed
            rows, failed_rows = await self._readable(connection, webhook, now, limit)
            await _change(
                connection,
                rows,
                attempts=_columns.attempts + 1,
                due_at=now + duration,
                leased_until=now + duration,
                changed_at=newest_change(literal(now, _columns.changed_at.type)),
                held_since=func.coalesce(_columns.held_since, _columns.changed_at),
                message=_LEASED_MESSAGE,
            )
            if rate is not None and rows:
                for _ in rows:
                    used_until = rate.use(used_until, now.timestamp())
                await _store_rate(connection, webhook.id, datetime.fromtimestamp(used_until, UTC))
        leases = [Lease(_to_delivery(row, row.attempts + 1), now, now + duration) for row in rows]
        return Leased(leases, [_to_lease(row) for row in rows if row.leased_until is not None], failed_rows)

    async def leased(self, webhook_id: str, delivery_ids: Collection[str]) -> Sequence[Lease]:
        """The open leases of these deliveries, expired ones included."""
        query = select(deliveries).where(_columns.id.in_(delivery_ids), _is_leased(webhook_id))
        return [_to_lease(row) for row in await self._database.rows(query)]

    async def delivered(self, webhook_id: str, delivery_ids: Collection[str]) -> Collection[str]:
        """The delivered ones among these."""
        query = select(_columns.id).where(
            _columns.id.in_(delivery_ids), _columns.webhook_id == webhook_id, _columns.state == State.DELIVERED
        )
        return {row.id for row in await self._database.rows(query)}

    async def give_back(self, webhook_id: str, delivery_ids: Collection[str], delay: timedelta) -> Sequence[Lease]:
        """End the leases of these deliveries: the next reader may pull them after a delay. Returns these leases."""
        async with self._database.transaction() as connection:
            now = self._clock.now()
            query = select(deliveries).where(_columns.id.in_(delivery_ids), _is_leased(webhook_id))
            # The recorder locks in id order, too. Another order could deadlock.
            locked = query.where(_columns.due_at > now).order_by(_columns.id).with_for_update()
            rows = (await connection.execute(locked)).all()
            await _change(connection, rows, due_at=now + delay, leased_until=None, message=_GIVEN_BACK_MESSAGE)
        return [_to_lease(row) for row in rows]

    async def forget_attempts(self, leases: Collection[Lease]) -> None:
        """Delete the attempts of these deliveries that are older than the last ones; their number stays."""
        old_attempts = [
            (lease.delivery.id, lease.delivery.attempt - KEPT_ATTEMPTS)
            for lease in leases
            if lease.delivery.attempt > KEPT_ATTEMPTS
        ]
        if old_attempts:
            is_old = tuple_(attempts.c.delivery_id, attempts.c.number).in_(old_attempts)
            async with self._database.transaction() as connection:
                # A request has a URL, and is kept.
                await connection.execute(delete(attempts).where(is_old, attempts.c.url == ""))

    async def available(self, limits: Mapping[str, int]) -> Mapping[str, int]:
        """The number of deliveries that a reader could pull now from each of these webhooks, up to its limit."""
        now = self._clock.now()
        async with self._database.read_transaction() as connection:
            if is_sqlite(connection):
                return await _count_each(connection, limits, now)
            wanted = values(sql_column("id", Text), name="wanted").data([(webhook_id,) for webhook_id in limits])
            first = _select_pullable(wanted.c.id, now).limit(max(limits.values())).lateral("first")
            query = select(wanted.c.id, func.count().label("pullable")).join_from(wanted, first, true())
            return {row.id: row.pullable for row in await connection.execute(query.group_by(wanted.c.id))}

    async def keep(self, webhook_id: str, expires_at: datetime) -> None:
        """Let a temporary webhook live until this time."""
        is_temporary = webhooks.c.expires_at.is_not(None) & webhooks.c.deleted_at.is_(None)
        query = update(webhooks).where(webhooks.c.id == webhook_id, is_temporary)
        async with self._database.transaction() as connection:
            await connection.execute(query.values(expires_at=expires_at))

    async def _used_until(self, connection: AsyncConnection, webhook_id: str, rate: Rate) -> float:
        """The time until which the rate is used up. Only the webhook's readers wait for each other here."""
        row = {"webhook_id": webhook_id, "used_until": datetime.fromtimestamp(0, UTC)}
        await connection.execute(insert(pull_rates).values(row).on_conflict_do_nothing())
        lock = select(pull_rates.c.used_until).where(pull_rates.c.webhook_id == webhook_id).with_for_update()
        used_until: datetime = (await connection.execute(lock)).scalar_one()
        # Limited by this rate: the webhook may have had a slower one.
        most = rate.used_at_start(self._clock.now().timestamp()) + 1 / rate.per_second
        if used_until.timestamp() > most:
            await _store_rate(connection, webhook_id, datetime.fromtimestamp(most, UTC))
        return min(used_until.timestamp(), most)

    async def _readable(
        self, connection: AsyncConnection, webhook: Webhook, now: datetime, limit: int
    ) -> tuple[Sequence[Any], Sequence[FailedRow]]:
        """Locked rows that a reader may have. The others are put aside, so that they do not block the queue.

        These are events of erased learners, which their erasure reaches, and invalid rows, which are returned too.
        """
        await prefer_index_order(connection)
        failed_rows: list[FailedRow] = []
        for _ in range(MAX_SKIPPED_PORTIONS):
            query = _SELECT_PULLABLE.where(_is_due(webhook, now)).order_by(_columns.due_at, _columns.id).limit(limit)
            locked = query.with_for_update(of=deliveries, skip_locked=True)
            rows = _fitting((await connection.execute(locked)).all())
            readable_ids = {lease.delivery.id for lease in read_rows(rows, _to_new_lease, failed_rows)}
            erased_ids = await self._erased_ids(connection, [row for row in rows if row.id in readable_ids])
            found = [row for row in rows if row.id in readable_ids - erased_ids]
            others = [row for row in rows if row.id not in readable_ids - erased_ids]
            await _change(connection, others, due_at=now + ASIDE_TIME)
            if found or not rows:
                return found, failed_rows
        return (), failed_rows

    async def _erased_ids(self, connection: AsyncConnection, rows: Sequence[Any]) -> set[str]:
        """The deliveries of erased learners, which an erasure has not reached yet."""
        erasing_accounts = await accounts_with_erasures(connection, {row.account_id for row in rows})
        if not erasing_accounts:
            return set()
        recorded_events = {(row.account_id, row.event_id): _to_event(row) for row in rows}
        erased_keys = await self._erased_events.find_erased(connection, recorded_events, erasing_accounts)
        return {row.id for row in rows if (row.account_id, row.event_id) in erased_keys}


async def _store_rate(connection: AsyncConnection, webhook_id: str, used_until: datetime) -> None:
    await connection.execute(
        update(pull_rates).where(pull_rates.c.webhook_id == webhook_id).values(used_until=used_until)
    )


async def _change(connection: AsyncConnection, rows: Sequence[Any], **changes: Any) -> None:
    if rows:
        is_one = _columns.id.in_([row.id for row in rows])
        await connection.execute(update(deliveries).where(is_one).values(changes))


def _is_leased(webhook_id: str) -> ColumnElement[bool]:
    return (_columns.webhook_id == webhook_id) & IS_PULLED & _columns.leased_until.is_not(None)


def _is_due(webhook: Webhook, now: datetime) -> ColumnElement[bool]:
    """Whether a reader may have a delivery of this webhook. `publish` ends deliveries past their retention."""
    held_after = now - webhook.options.retention
    was_paused = select(func.max(pauses.c.ended_at)).where(pauses.c.webhook_id == webhook.id).scalar_subquery()
    return (
        (_columns.webhook_id == webhook.id)
        & IS_HELD_FOR_READERS
        & (_columns.due_at <= now)
        & or_(func.coalesce(_columns.held_since, _columns.due_at) >= held_after, was_paused > held_after)
    )


def _select_pullable(webhook_id: ColumnElement[str] | str, now: datetime) -> Select[Any]:
    """A row for each delivery of an active webhook that a reader could pull now."""
    is_active = (
        exists().where(webhooks.c.id == webhook_id, webhooks.c.status == Status.ACTIVE).correlate_except(webhooks)
    )
    return select(literal(1).label("one")).where(
        _columns.webhook_id == webhook_id, IS_HELD_FOR_READERS, _columns.due_at <= now, is_active
    )


async def _count_each(connection: AsyncConnection, limits: Mapping[str, int], now: datetime) -> Mapping[str, int]:
    """SQLite has no LATERAL."""
    counts: dict[str, int] = {}
    for webhook_id, limit in limits.items():
        first = _select_pullable(webhook_id, now).limit(limit)
        if count := await connection.scalar(select(func.count()).select_from(first.subquery())):
            counts[webhook_id] = count
    return counts


def _fitting(rows: Sequence[Any]) -> Sequence[Any]:
    """The first rows whose bodies fit one response together; one at least."""
    size = 0
    for number, row in enumerate(rows):
        size += len(row.body)
        if number and size > MAX_PULL_BYTES:
            return rows[:number]
    return rows


def _to_new_lease(row: Any) -> Lease:
    return Lease(_to_delivery(row, row.attempts + 1), row.changed_at, row.due_at)


def _to_lease(row: Any) -> Lease:
    return Lease(_to_delivery(row, row.attempts), row.changed_at, row.leased_until)


def _to_delivery(row: Any, attempt: int) -> Delivery:
    """The delivery of a row, without its event if the row has none."""
    has_event = hasattr(row, "body")
    return Delivery(
        account_id=row.account_id,
        event_id=row.event_id,
        event_type=row.event_type,
        webhook_id=row.webhook_id,
        first_seen_at=row.first_seen_at,
        subscriptions_position=SubscriptionsPosition("", 0),
        body=row.body if has_event else b"",
        subjects=_subjects(row) if has_event else EventSubjects(None, None, None, None),
        event_hash=row.hash if has_event else b"",
        trigger=Trigger(row.trigger),
        generation=row.generation,
        step=row.step,
        attempt=attempt,
        target=Target.PRIMARY,
        target_attempt=row.target_attempt,
        trace_parent=row.trace_parent if has_event else None,
    )


def _subjects(row: Any) -> EventSubjects:
    return EventSubjects(row.session_id, row.learner_id, row.package_id, row.dispatch_id)


def _to_event(row: Any) -> RecordedEvent:
    return RecordedEvent(row.first_seen_at, row.body, row.trace_parent, _subjects(row), row.hash)
