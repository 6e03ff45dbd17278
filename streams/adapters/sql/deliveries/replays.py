"""Replay deliveries as a new generation, or discard them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, exists, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.deliveries.ordered_query import filter_conditions, ordered_query
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.erasures.erased_events import IS_NOT_ERASED
from streams.adapters.sql.tables.deliveries import deliveries, events, newest_change, webhooks
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.delivery import HoldReason, State, Target, Trigger
from streams.core.deliveries.delivery_state import HELD_MESSAGES
from streams.core.limits import MAX_RETRIES_PER_DELIVERY
from streams.ports.runtime import Clock

DISCARDED_MESSAGE = "A person discarded it."


class SqlReplays:
    """`Replays` in SQL. A replayed delivery is held until `publish` releases it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def replay(self, delivery_filter: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        async with self._database.transaction() as connection:
            return (await replay(connection, delivery_filter, self._clock.now(), audit_entry)).ids

    async def discard(self, delivery_filter: DeliveryFilter, audit_entry: AuditEntry | None = None) -> Sequence[str]:
        async with self._database.transaction() as connection:
            return (await discard(connection, delivery_filter, self._clock.now(), audit_entry)).ids


_columns = deliveries.c
HAS_PAYLOAD = exists().where(events.c.account_id == _columns.account_id, events.c.event_id == _columns.event_id)
# A held delivery is released anyway, and a person sends a new test instead.
CAN_BE_SENT = and_(
    _columns.state != State.HELD,
    _columns.trigger != Trigger.TEST,
    # fan-out makes the first generation; every later one is a retry.
    _columns.generation <= MAX_RETRIES_PER_DELIVERY,
    IS_NOT_ERASED,
    exists().where(webhooks.c.id == _columns.webhook_id, webhooks.c.deleted_at.is_(None)),
)
IS_DEAD = _columns.state == State.DEAD
# The values with which a delivery restarts; `publish` releases it.
NEW_GENERATION: dict[str, Any] = {
    "generation": _columns.generation + 1,
    "step": 1,
    "state": State.HELD,
    "reason": HoldReason.REPLAY,
    "message": HELD_MESSAGES[HoldReason.REPLAY],
    "attempts": 0,
    "target": Target.PRIMARY,
    "target_attempt": 1,
    "tier": None,
    "due_at": None,
    "held_since": None,
    "leased_until": None,
    "pause_id": None,
}


class ChangedPortion(NamedTuple):
    """The ids of the changed deliveries, and how far the filter was read; None without a change."""

    ids: Sequence[str]
    reached: datetime | None


async def replay(
    connection: AsyncConnection,
    delivery_filter: DeliveryFilter,
    now: datetime,
    audit_entry: AuditEntry | None = None,
    reached: datetime | None = None,
) -> ChangedPortion:
    """Start a new generation of up to `delivery_filter.limit` matches, oldest first, from `reached` on."""
    new_values = {**NEW_GENERATION, "trigger": Trigger.MANUAL}
    return await _change(connection, delivery_filter, CAN_BE_SENT & HAS_PAYLOAD, new_values, now, audit_entry, reached)


async def discard(
    connection: AsyncConnection,
    delivery_filter: DeliveryFilter,
    now: datetime,
    audit_entry: AuditEntry | None = None,
    reached: datetime | None = None,
) -> ChangedPortion:
    """Discard up to `delivery_filter.limit` matching dead letters, oldest first, from `reached` on."""
    end_values = {"step": deliveries.c.step + 1, "state": State.DISCARDED, "message": DISCARDED_MESSAGE}
    return await _change(connection, delivery_filter, IS_DEAD, end_values, now, audit_entry, reached)


async def _change(
    connection: AsyncConnection,
    delivery_filter: DeliveryFilter,
    condition: ColumnElement[bool],
    values: dict[str, Any],
    now: datetime,
    audit_entry: AuditEntry | None,
    reached: datetime | None,
) -> ChangedPortion:
    ordered = ordered_query(delivery_filter, is_oldest_first=True)
    matches = ordered.select(deliveries.c.id, ordered.at.label("seen_at")).where(condition)
    oldest = ordered.select_oldest(matches, delivery_filter.limit, reached)
    await ordered.prepare(connection)
    ids: list[str] = []
    while not ids and (candidates := (await connection.execute(oldest)).all()):
        # Checked again on the locked row, after a wait for an erasure.
        is_candidate = deliveries.c.id.in_([row.id for row in candidates])
        conditions = (is_candidate, *filter_conditions(delivery_filter), condition)
        # The recorder locks in id order. Another order could deadlock.
        lock = select(deliveries.c.id).where(*conditions).order_by(deliveries.c.id)
        ids = [row.id for row in await connection.execute(lock.with_for_update())]
    if not ids:
        return ChangedPortion([], None)
    changed_at = literal(delivery_filter.change_at(now), deliveries.c.changed_at.type)
    changes = {**values, "changed_at": newest_change(changed_at)}
    await connection.execute(update(deliveries).where(deliveries.c.id.in_(ids)).values(changes))
    await write_entry(connection, audit_entry)
    return ChangedPortion(ids, candidates[-1].seen_at)
