"""The work that failed because of its row, in SQL."""

from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import delete, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.engine.rows import to_value
from streams.adapters.sql.tables.accounts import failed_work
from streams.core.failed_work import FAILING_PERIOD, FailedWork, WorkKind

_columns = failed_work.c


class SqlFailedWork(SqlStorage):
    """A `FailedWorkLog` in SQL."""

    async def note(self, failure: FailedWork) -> None:
        statement = insert(failed_work).values(asdict(failure))
        changes = {column.name: statement.excluded[column.name] for column in _columns if not column.primary_key}
        upsert = statement.on_conflict_do_update(index_elements=[_columns.kind, _columns.work_id], set_=changes)
        async with self._database.transaction() as connection:
            await connection.execute(upsert)
            # Work that failed in a process that is gone may have succeeded in another.
            is_over = _columns.last_failed_at < failure.last_failed_at - FAILING_PERIOD
            await connection.execute(delete(failed_work).where(is_over))

    async def remove(self, kind: WorkKind, work_id: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(failed_work).where(_columns.kind == kind, _columns.work_id == work_id))

    async def list_newest(self, limit: int) -> Sequence[FailedWork]:
        """The work whose last failure is newest, newest first."""
        query = select(failed_work).order_by(_columns.last_failed_at.desc(), _columns.kind, _columns.work_id)
        rows = await self._database.rows(query.limit(limit))
        return [to_value(FailedWork, row, kind=WorkKind(row.kind)) for row in rows]
