"""Read recorded deliveries."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.attempts_shown import newest_attempts
from streams.adapters.sql.deliveries.ordered_query import filter_conditions, ordered_query
from streams.adapters.sql.deliveries.replays import HAS_PAYLOAD
from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.keyset import to_page
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.deliveries import attempts, deliveries, events, webhooks
from streams.core.accounts.account import AttemptDetails, DeliveryDetails, DeliveryFilter, DeliverySummary
from streams.core.deliveries.delivery import State, Target, Trigger
from streams.core.deliveries.delivery_state import DeliveryState, StateCount
from streams.core.deliveries.rendering import render_body
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.events.event import sequence_of
from streams.core.limits import MAX_ATTEMPTS_SHOWN
from streams.core.page import Cursor, Page
from streams.core.records.record_checks import parse_recorded_options

MAX_BODIES_AT_ONCE = 50


class SqlDeliveryStore(SqlStorage):
    """A `DeliveryStore` in SQL."""

    async def list(self, delivery_filter: DeliveryFilter) -> Page[DeliveryState]:
        ordered = ordered_query(delivery_filter)
        query = ordered.select_newest(
            ordered.select(deliveries, ordered.at.label("seen_at")), delivery_filter.after, delivery_filter.limit
        )
        async with self._database.read_transaction() as connection:
            await ordered.prepare(connection)
            rows = (await connection.execute(query)).all()
        page = to_page(rows, delivery_filter.limit, lambda row: Cursor(row.seen_at, row.id))
        return Page([to_delivery_state(row) for row in page.rows], page.next_cursor)

    async def find(self, delivery_id: str) -> DeliveryDetails | None:
        async with self._database.read_transaction() as connection:
            row = (await connection.execute(select(deliveries).where(deliveries.c.id == delivery_id))).one_or_none()
            if row is None:
                return None
            body = await connection.scalar(
                select(events.c.body).where(events.c.account_id == row.account_id, events.c.event_id == row.event_id)
            )
            newest = await newest_attempts(connection, delivery_id, None, MAX_ATTEMPTS_SHOWN)
            if body is not None:
                body = await self._sent_body(connection, row.webhook_id, body, newest.rows)
            # Counted after the read: the total includes every attempt that was read.
            total = await connection.scalar(select(func.count()).where(attempts.c.delivery_id == delivery_id))
        return DeliveryDetails(to_delivery_state(row), body, newest.rows[::-1], total or 0, newest.next_cursor)

    async def _sent_body(
        self, connection: AsyncConnection, webhook_id: str, body: bytes, newest_first: Sequence[AttemptDetails]
    ) -> bytes | None:
        """The body that the newest attempt sent, or that the first one would send. None if it cannot be read."""
        try:
            if newest_first:
                return render_body(body, newest_first[0].fields)
            query = select(webhooks.c.options).where(webhooks.c.id == webhook_id)
            return render_body(body, parse_recorded_options(await connection.scalar(query)).fields)
        except (InvalidRecord, NewerRecord):
            return None

    async def attempts(self, delivery_id: str, cursor: Cursor | None, limit: int) -> Page[AttemptDetails]:
        async with self._database.read_transaction() as connection:
            return await newest_attempts(connection, delivery_id, cursor, limit)

    async def count_states(self) -> Mapping[str, Sequence[StateCount]]:
        place = (deliveries.c.webhook_id, deliveries.c.state, deliveries.c.tier, deliveries.c.reason)
        query = select(*place, func.count().label("how_many")).group_by(*place)
        state_counts: dict[str, list[StateCount]] = {}
        for row in await self._database.rows(query):
            count = StateCount(State(row.state), row.tier, row.reason, row.how_many)
            state_counts.setdefault(row.webhook_id, []).append(count)
        return state_counts

    async def summary(self, delivery_filter: DeliveryFilter) -> DeliverySummary:
        first_seen = deliveries.c.first_seen_at
        deleted_webhooks = select(webhooks.c.id).where(webhooks.c.deleted_at.is_not(None))
        if delivery_filter.account_id is not None:
            deleted_webhooks = deleted_webhooks.where(webhooks.c.account_id == delivery_filter.account_id)
        figures = (
            func.count(),
            func.count(deliveries.c.webhook_id.distinct()),
            func.min(first_seen),
            func.max(first_seen),
            func.count().filter(deliveries.c.webhook_id.in_(deleted_webhooks)),
        )
        return DeliverySummary(*await self._database.row(select(*figures).where(*filter_conditions(delivery_filter))))

    async def find_existing(self, delivery_ids: Sequence[str]) -> Collection[str]:
        query = select(deliveries.c.id).where(deliveries.c.id.in_(delivery_ids))
        return {row.id for row in await self._database.rows(query)}

    async def sequences(self, account_id: str, event_ids: Sequence[str]) -> Mapping[str, int]:
        sequences: dict[str, int] = {}
        # A body may have 64 KiB.
        for start in range(0, len(event_ids), MAX_BODIES_AT_ONCE):
            is_read = events.c.event_id.in_(event_ids[start : start + MAX_BODIES_AT_ONCE])
            query = select(events.c.event_id, events.c.body).where(events.c.account_id == account_id, is_read)
            for row in await self._database.rows(query):
                if (sequence := sequence_of(row.body)) is not None:
                    sequences[row.event_id] = sequence
        return sequences

    async def with_outcome(self, delivery_ids: Sequence[str]) -> Collection[str]:
        has_ended = deliveries.c.id.in_(delivery_ids) & (deliveries.c.state != State.WAITING)
        query = select(deliveries.c.id).where(has_ended, HAS_PAYLOAD)
        return {row.id for row in await self._database.rows(query)}


def to_delivery_state(row: Any) -> DeliveryState:
    """The state in a row of `deliveries`."""
    return to_value(
        DeliveryState,
        row,
        delivery_id=row.id,
        trigger=Trigger(row.trigger),
        state=State(row.state),
        target=Target(row.target),
    )
