"""Read held deliveries whose webhook can receive them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, bindparam, exists, literal_column, or_, select, text, update

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.keyset import prefer_index_order
from streams.adapters.sql.tables.deliveries import (
    IS_HELD,
    IS_HELD_FOR_READERS,
    IS_PULLED,
    deliveries,
    dirty_webhooks,
    events,
    pauses,
    webhooks,
)
from streams.adapters.sql.tables.types import Moment
from streams.core.deliveries.delivery import Delivery, HoldReason, State, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.delivery_state import HELD_MESSAGES
from streams.core.deliveries.held import HeldChoice, HeldDelivery, Probe, PulledWebhook, ReleaseProgress
from streams.core.events.event import EventSubjects
from streams.core.failed_work import FailedRows, read_rows
from streams.core.webhooks.probe import next_probe_at, probe_number
from streams.core.webhooks.webhook import Status

# Probes of one cycle.
MAX_PROBES = 100
LOST_PROBE_AGE = timedelta(hours=1)

# Steps through the index by webhook: it reads one entry even of a webhook with a million held deliveries.
_SELECT_RELEASABLE = text(
    """
    WITH RECURSIVE held (id) AS (
        SELECT min(webhook_id) FROM deliveries WHERE state = 'held' AND reason != 'pull'
        UNION ALL
        SELECT (
            SELECT min(d.webhook_id) FROM deliveries d
            WHERE d.state = 'held' AND d.reason != 'pull' AND d.webhook_id > held.id
        )
        FROM held WHERE held.id IS NOT NULL
    )
    SELECT held.id, (
        SELECT count(*) FROM deliveries d
        WHERE d.webhook_id = held.id AND d.state = 'waiting' AND d.tier IS NULL AND d.step > 1
    ) AS under_way
    FROM held LEFT JOIN webhooks ON webhooks.id = held.id
    WHERE held.id IS NOT NULL
      AND (webhooks.id IS NULL OR webhooks.deleted_at IS NOT NULL OR webhooks.status = 'active')
      AND NOT EXISTS (SELECT 1 FROM dirty_webhooks WHERE dirty_webhooks.webhook_id = held.id)
    """
)


# The same for deliveries that wait for readers. If the webhook is no longer a pull webhook, they are released.
_SELECT_PULLED = text(
    """
    WITH RECURSIVE pulled (id) AS (
        SELECT min(webhook_id) FROM deliveries WHERE state = 'held' AND reason = 'pull'
        UNION ALL
        SELECT (
            SELECT min(d.webhook_id) FROM deliveries d
            WHERE d.state = 'held' AND d.reason = 'pull' AND d.webhook_id > pulled.id
        )
        FROM pulled WHERE pulled.id IS NOT NULL
    )
    SELECT pulled.id, webhooks.status,
        (SELECT min(d.due_at) FROM deliveries d
         WHERE d.webhook_id = pulled.id AND d.state = 'held' AND d.reason = 'pull') AS due_at,
        (SELECT min(d.held_since) FROM deliveries d
         WHERE d.webhook_id = pulled.id AND d.state = 'held' AND d.reason = 'pull' AND d.held_since IS NOT NULL
        ) AS held_since,
        (webhooks.url = '' AND webhooks.deleted_at IS NULL) AS is_pull,
        (webhooks.expires_at IS NOT NULL AND webhooks.deleted_at IS NOT NULL) AS has_ended,
        (SELECT max(ended_at) FROM pauses WHERE pauses.webhook_id = pulled.id) AS enabled_at
    FROM pulled LEFT JOIN webhooks ON webhooks.id = pulled.id
    WHERE pulled.id IS NOT NULL
      AND NOT EXISTS (SELECT 1 FROM dirty_webhooks WHERE dirty_webhooks.webhook_id = pulled.id)
    """
).columns(enabled_at=Moment(), due_at=Moment(), held_since=Moment())


_is_of_pause = (deliveries.c.webhook_id == webhooks.c.id) & (deliveries.c.pause_id == webhooks.c.pause_id)
_is_waiting = deliveries.c.state == literal_column("'waiting'")
_is_under_way = _is_waiting & deliveries.c.tier.is_(None) & (deliveries.c.step > literal_column("1"))
# A lost probe blocks the others for at most an hour.
_is_recent = deliveries.c.changed_at > bindparam("lost_before", type_=Moment())
_SELECT_DUE = (
    select(webhooks.c.id, webhooks.c.pause_id, webhooks.c.paused_at)
    .where(webhooks.c.probe_at <= bindparam("now", type_=Moment()))
    .where(webhooks.c.status == Status.PAUSED, webhooks.c.deleted_at.is_(None), webhooks.c.url != "")
    .where(~exists().where(dirty_webhooks.c.webhook_id == webhooks.c.id))
    # Never two at once: the row of a probe has the id of its pause.
    .where(~exists().where(_is_of_pause, _is_under_way, _is_recent))
    .where(exists().where(_is_of_pause, IS_HELD))
    .order_by(webhooks.c.probe_at)
    .limit(MAX_PROBES)
)

_SUBJECT_COLUMNS = (events.c.session_id, events.c.learner_id, events.c.package_id, events.c.dispatch_id)


class SqlHeldDeliveries(SqlStorage):
    """A `HeldDeliveries` in SQL."""

    async def webhooks(self) -> Mapping[str, int]:
        return {row.id: row.under_way for row in await self._database.rows(_SELECT_RELEASABLE)}

    async def pulled_webhooks(self) -> Sequence[PulledWebhook]:
        return [
            PulledWebhook(
                row.id,
                bool(row.is_pull),
                row.status == Status.ACTIVE,
                bool(row.has_ended),
                row.enabled_at,
                min(filter(None, (row.due_at, row.held_since)), default=None),
            )
            for row in await self._database.rows(_SELECT_PULLED)
        ]

    async def oldest(
        self, webhook_id: str, limit: int, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[HeldDelivery]:
        # A pause without a choice still holds its deliveries, even if a later pause has ended.
        may_leave = or_(pauses.c.id.is_(None), pauses.c.choice.is_not(None))
        query = _select_held(webhook_id, excluded).where(IS_HELD, may_leave).order_by(*_OLDEST)
        return await self._read(query.limit(limit), failed_rows)

    async def unacknowledged(
        self,
        webhook_id: str,
        held_before: datetime,
        now: datetime,
        limit: int,
        excluded: Collection[str] = (),
        failed_rows: FailedRows = None,
    ) -> Sequence[HeldDelivery]:
        columns = deliveries.c
        query = _select_held(webhook_id, excluded)
        # Each query uses its index. No lease is that long, so deliveries due before that have no reader.
        is_never_leased = IS_HELD_FOR_READERS & (columns.due_at < held_before)
        held = await self._read(
            query.where(is_never_leased).order_by(columns.due_at, columns.id).limit(limit), failed_rows
        )
        if len(held) < limit:
            # During a lease a reader may still acknowledge it.
            is_free = IS_PULLED & (columns.held_since < held_before) & columns.due_at.between(held_before, now)
            query = query.where(is_free).order_by(columns.held_since).limit(limit - len(held))
            held = [*held, *await self._read(query, failed_rows)]
        return [replace(one, is_unacknowledged=True) for one in held]

    async def to_requests(self, webhook_id: str, now: datetime, limit: int) -> int:
        columns = deliveries.c
        is_due = (columns.webhook_id == webhook_id) & IS_HELD_FOR_READERS & (columns.due_at <= now)
        oldest = select(columns.id).where(is_due).order_by(columns.due_at)
        async with self._database.transaction() as connection:
            # The recorder locks in id order.
            ids = sorted((await connection.scalars(oldest.limit(limit))).all())
            lock = select(columns.id).where(columns.id.in_(ids), is_due).order_by(columns.id)
            ids = list((await connection.scalars(lock.with_for_update())).all())
            await connection.execute(update(deliveries).where(columns.id.in_(ids)).values(_FOR_REQUESTS))
        return len(ids)

    async def _read(self, query: Select[Any], failed_rows: FailedRows) -> Sequence[HeldDelivery]:
        async with self._database.read_transaction() as connection:
            await prefer_index_order(connection)
            return read_rows(await connection.execute(query), _to_held, failed_rows)

    async def due_probes(
        self, now: datetime, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[Probe]:
        probes: list[Probe] = []
        async with self._database.read_transaction() as connection:
            await prefer_index_order(connection)
            due = await connection.execute(_SELECT_DUE, {"now": now, "lost_before": now - LOST_PROBE_AGE})
            for webhook in due.all():
                of_pause = _select_held(webhook.id, excluded).where(deliveries.c.pause_id == webhook.pause_id, IS_HELD)
                of_pause = of_pause.order_by(*_OLDEST)
                # A different one each time: an endpoint may refuse one particular event.
                for offset in dict.fromkeys((probe_number(webhook.paused_at, now), 0)):
                    rows = await connection.execute(of_pause.limit(1).offset(offset))
                    if held := read_rows(rows, _to_held, failed_rows):
                        probes.append(Probe(held[0].delivery, webhook.pause_id))
                        break
        return probes

    async def move_probe(self, webhook_id: str, pause_id: str, now: datetime) -> None:
        is_in_pause = (webhooks.c.id == webhook_id) & (webhooks.c.pause_id == pause_id)
        async with self._database.transaction() as connection:
            paused_at = await connection.scalar(select(webhooks.c.paused_at).where(is_in_pause))
            if paused_at is not None:
                later = update(webhooks).where(is_in_pause, webhooks.c.probe_at.is_not(None))
                await connection.execute(later.values(probe_at=next_probe_at(paused_at, now)))

    async def progress(self, delivery_ids: Sequence[str], failed_rows: FailedRows = None) -> Sequence[ReleaseProgress]:
        columns = deliveries.c
        selected = (columns.id, columns.state, columns.generation, columns.step, columns.reason)
        rows = await self._database.rows(select(*selected).where(columns.id.in_(delivery_ids)))
        return read_rows(rows, _to_progress, failed_rows)


# `publish` releases it as it releases a replay.
_FOR_REQUESTS = {
    "reason": HoldReason.REPLAY,
    "message": HELD_MESSAGES[HoldReason.REPLAY],
    "due_at": None,
    "held_since": None,
    "leased_until": None,
}
_OLDEST = (deliveries.c.first_seen_at, deliveries.c.id)


def _select_held(webhook_id: str, excluded: Collection[str]) -> Select[Any]:
    """Deliveries of a webhook, with their events and the choices of their pauses."""
    columns = deliveries.c
    query = (
        select(deliveries, events.c.body, events.c.trace_parent, events.c.hash, *_SUBJECT_COLUMNS, pauses.c.choice)
        .join(events, (events.c.account_id == columns.account_id) & (events.c.event_id == columns.event_id))
        .outerjoin(pauses, pauses.c.id == columns.pause_id)
        .where(columns.webhook_id == webhook_id)
    )
    return query.where(columns.id.not_in(excluded)) if excluded else query


def _to_progress(row: Any) -> ReleaseProgress:
    is_for_readers = row.state == State.HELD and row.reason == HoldReason.PULL
    return ReleaseProgress(row.id, State(row.state), row.generation, row.step, is_for_readers)


def _to_held(row: Any) -> HeldDelivery:
    delivery = Delivery(
        account_id=row.account_id,
        event_id=row.event_id,
        event_type=row.event_type,
        webhook_id=row.webhook_id,
        first_seen_at=row.first_seen_at,
        subscriptions_position=SubscriptionsPosition("", 0),
        body=row.body,
        trigger=Trigger(row.trigger),
        generation=row.generation,
        step=row.step,
        attempt=row.attempts + 1,
        target=Target.PRIMARY,
        target_attempt=row.target_attempt,
        hold_reason=HoldReason(row.reason),
        pause_id=row.pause_id,
        trace_parent=row.trace_parent,
        subjects=EventSubjects(row.session_id, row.learner_id, row.package_id, row.dispatch_id),
        event_hash=row.hash,
    )
    return HeldDelivery(delivery, HeldChoice(row.choice or HeldChoice.DELIVER))
