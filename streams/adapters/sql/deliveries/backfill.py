"""Add missing deliveries, with their events, in the transaction of a job's progress."""

from operator import attrgetter

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.deliveries.event_metadata import insert_metadata
from streams.adapters.sql.deliveries.recorder import delivery_row, event_rows
from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.many_keys import in_pairs
from streams.adapters.sql.erasures.erased_events import SqlErasedEvents, accounts_with_erasures, without_erased
from streams.adapters.sql.tables.deliveries import deliveries, events, webhooks
from streams.core.deliveries.delivery_state import Batch
from streams.ports.delivery import Encryption

_EVENTS = BulkInsert(events)
_DELIVERIES = BulkInsert(deliveries, returning=[deliveries.c.id])


class MissingDeliveries:
    """Inserts the missing deliveries of a batch. Existing deliveries do not change.

    Events of erased learners are skipped.
    """

    def __init__(self, encryption: Encryption) -> None:
        self._erased_events = SqlErasedEvents(encryption)

    async def add(self, connection: AsyncConnection, batch: Batch) -> int:
        """Add the deliveries. Returns how many were added."""
        if not batch.delivery_states:
            return 0
        # The recorder also locks the webhooks first, then inserts in this order. Another order could deadlock.
        ids = sorted(batch.webhook_ids())
        await connection.execute(select(webhooks.c.id).where(webhooks.c.id.in_(ids)).with_for_update())
        erasing_accounts = await accounts_with_erasures(connection, batch.account_ids())
        erased_keys = await self._erased_events.find_erased(connection, batch.events, erasing_accounts)
        batch = await without_erased(connection, batch, erased_keys, erasing_accounts)
        remaining = [
            delivery_state
            for delivery_state in batch.delivery_states
            if (delivery_state.account_id, delivery_state.event_id) not in erased_keys
        ]
        if not remaining:
            return 0
        await self._keep_events(connection, batch)
        rows = [delivery_row(delivery_state) for delivery_state in sorted(remaining, key=attrgetter("delivery_id"))]
        return len(list(await _DELIVERIES.execute(connection, rows)))

    async def _keep_events(self, connection: AsyncConnection, batch: Batch) -> None:
        """Add the missing events, and lock them all: retention would delete one whose delivery it does not see."""
        rows, key = event_rows(batch), (events.c.account_id, events.c.event_id)
        is_event = in_pairs(connection, key, sorted(batch.events))
        lock = select(*key).where(is_event).order_by(*key)
        while True:
            await _EVENTS.execute(connection, rows)
            locked_rows = (await connection.execute(lock.with_for_update(read=True, key_share=True))).all()
            if len(locked_rows) == len(rows):  # otherwise one was deleted in between
                await insert_metadata(connection, batch, batch.events.keys())
                return
