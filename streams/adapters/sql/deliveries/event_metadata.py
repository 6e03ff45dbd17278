"""Store and delete the metadata pairs of events, by which people find events."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.many_keys import in_pairs
from streams.adapters.sql.tables.deliveries import event_metadata
from streams.core.deliveries.delivery_state import Batch, EventKey

_PAIRS = BulkInsert(event_metadata)


async def insert_metadata(connection: AsyncConnection, batch: Batch, keys: Collection[EventKey]) -> None:
    """Store the pairs of these events of the batch."""
    rows = [
        {"account_id": key[0], "event_id": key[1], "hash": pair, "first_seen_at": batch.events[key].first_seen_at}
        for key in sorted(keys)
        for pair in batch.events[key].subjects.metadata
    ]
    if rows:
        await _PAIRS.execute(connection, rows)


async def delete_metadata(connection: AsyncConnection, keys: Sequence[EventKey]) -> None:
    """Delete the pairs of these events."""
    columns = (event_metadata.c.account_id, event_metadata.c.event_id)
    await connection.execute(delete(event_metadata).where(in_pairs(connection, columns, keys)))
