"""This system's own events that wait to be produced, in SQL."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.bulk_insert import BulkInsert
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.engine.row_watch import RowWatch
from streams.adapters.sql.tables.usage import outgoing_events
from streams.core.accounts.usage import OutgoingEvent
from streams.core.events.event import Event, partition_key
from streams.ports.kafka import Codec

_EVENTS = BulkInsert(outgoing_events)


class OutgoingEventWriter:
    """Stores events to produce in a caller's transaction. `codec` encodes them."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    async def store(self, connection: AsyncConnection, events: Sequence[tuple[Event, datetime]]) -> None:
        """Store events, each with the time that decides its place in the order. A stored event does not change."""
        if not events:
            return
        rows = [
            {
                "id": event.id,
                "account_id": event.account_id,
                "key": partition_key(event),
                "created_at": at,
                "value": self._codec.encode(event),
            }
            for event, at in events
        ]
        await _EVENTS.execute(connection, rows)


class SqlOutgoingEvents:
    """`OutgoingEvents` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = RowWatch(database, outgoing_events)

    async def list_due(self, limit: int) -> Sequence[OutgoingEvent]:
        columns = outgoing_events.c
        query = select(outgoing_events).order_by(columns.created_at, columns.id).limit(limit)
        return [OutgoingEvent(row.id, row.key, row.value) for row in await self._database.rows(query)]

    async def wait(self) -> None:
        await self._watch.wait()

    async def remove(self, ids: Sequence[str]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(outgoing_events).where(outgoing_events.c.id.in_(ids)))
