"""The invalid records that were produced again, in SQL."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import delete, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.tables.accounts import replayed_records
from streams.core.records.invalid_record import StoredRecord

# Longer than any retention of `session-events.invalid`.
KEPT_FOR = timedelta(days=400)


class SqlReplayedRecords(SqlStorage):
    """Remembers records by place and time, because a topic that was made again has the same places."""

    async def without_replayed(self, records: Sequence[StoredRecord]) -> Sequence[StoredRecord]:
        """The records among these that were not produced again yet."""
        columns = replayed_records.c
        ids = [record.id for record in records]
        rows = await self._database.rows(select(columns.record_id, columns.stored_at).where(columns.record_id.in_(ids)))
        replayed = {(row.record_id, row.stored_at) for row in rows}
        return [record for record in records if (record.id, record.stored_at) not in replayed]

    async def add(self, records: Sequence[StoredRecord], now: datetime) -> None:
        """Remember that these records were produced again."""
        rows = [{"record_id": record.id, "stored_at": record.stored_at, "replayed_at": now} for record in records]
        async with self._database.transaction() as connection:
            await connection.execute(insert(replayed_records).on_conflict_do_nothing(), rows)
            await connection.execute(delete(replayed_records).where(replayed_records.c.replayed_at < now - KEPT_FOR))
