"""Read held deliveries whose webhook can take them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import or_, select, text

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.keyset import prefer_index_order
from streams.adapters.sql.tables.deliveries import deliveries, events, pauses
from streams.core.deliveries.delivery import Delivery, HoldReason, State, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.held import HeldChoice, HeldDelivery, ReleaseProgress
from streams.core.events.event import EventSubjects
from streams.core.failed_work import FailedRows, read_rows

# Steps through the index by webhook: of a webhook with a million held deliveries it reads one entry.
_SELECT_RELEASABLE = text(
    """
    WITH RECURSIVE held (id) AS (
        SELECT min(webhook_id) FROM deliveries WHERE state = 'held'
        UNION ALL
        SELECT (SELECT min(d.webhook_id) FROM deliveries d WHERE d.state = 'held' AND d.webhook_id > held.id)
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


_SUBJECT_COLUMNS = (events.c.session_id, events.c.learner_id, events.c.package_id, events.c.dispatch_id)


class SqlHeldDeliveries(SqlStorage):
    """A `HeldDeliveries` in SQL."""

    async def webhooks(self) -> Mapping[str, int]:
        return {row.id: row.under_way for row in await self._database.rows(_SELECT_RELEASABLE)}

    async def oldest(
        self, webhook_id: str, limit: int, excluded: Collection[str] = (), failed_rows: FailedRows = None
    ) -> Sequence[HeldDelivery]:
        columns = deliveries.c
        query = (
            select(deliveries, events.c.body, events.c.trace_parent, events.c.hash, *_SUBJECT_COLUMNS, pauses.c.choice)
            .join(events, (events.c.account_id == columns.account_id) & (events.c.event_id == columns.event_id))
            .outerjoin(pauses, pauses.c.id == columns.pause_id)
            .where(columns.webhook_id == webhook_id, columns.state == State.HELD)
            # A pause without a choice still holds its deliveries, even if a later pause has ended.
            .where(or_(pauses.c.id.is_(None), pauses.c.choice.is_not(None)))
            .order_by(columns.first_seen_at, columns.id)
            .limit(limit)
        )
        if excluded:
            query = query.where(columns.id.not_in(excluded))
        async with self._database.read_transaction() as connection:
            await prefer_index_order(connection)
            return read_rows(await connection.execute(query), _to_held, failed_rows)

    async def progress(self, delivery_ids: Sequence[str], failed_rows: FailedRows = None) -> Sequence[ReleaseProgress]:
        columns = deliveries.c
        query = select(columns.id, columns.state, columns.generation, columns.step).where(columns.id.in_(delivery_ids))
        rows = await self._database.rows(query)
        return read_rows(
            rows, lambda row: ReleaseProgress(row.id, State(row.state), row.generation, row.step), failed_rows
        )


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
