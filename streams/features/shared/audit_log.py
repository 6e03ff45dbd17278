"""The audit log: who did what."""

from typing import Any

from sqlalchemy import select

from streams.adapters.sql.audit import write_entry
from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.engine.keyset import read_page
from streams.adapters.sql.tables.accounts import audit_log
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.page import Cursor, Page, json_bytes


class SqlAuditLog(SqlStorage):
    """Who did what, newest first."""

    async def add(self, audit_entry: AuditEntry) -> None:
        """Write an entry for an action that changed no row."""
        async with self._database.transaction() as connection:
            await write_entry(connection, audit_entry)

    async def list(self, audit_filter: AuditFilter, cursor: Cursor | None, limit: int) -> Page[AuditEntry]:
        """A page of entries. It ends early when its rows have more than `MAX_LIST_BYTES`."""
        columns = audit_log.c
        equal_values = (
            (columns.account_id, audit_filter.account_id),
            (columns.actor, audit_filter.actor),
            (columns.action, audit_filter.action),
            (columns.object_id, audit_filter.object_id),
        )
        query = select(audit_log).where(*(column == value for column, value in equal_values if value is not None))
        if audit_filter.since is not None:
            query = query.where(columns.at >= audit_filter.since)
        if audit_filter.until is not None:
            query = query.where(columns.at < audit_filter.until)
        async with self._database.read_transaction() as connection:
            return await read_page(connection, query, columns.at, columns.id, cursor, limit, _entry, _response_bytes)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(row.id, row.actor, row.action, row.object_id, row.at, row.account_id, row.details)


def _response_bytes(entry: AuditEntry) -> int:
    return 300 + json_bytes((entry.actor, entry.object_id, entry.details))
