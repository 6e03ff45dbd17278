"""Write entries of the audit log, each in the transaction of its change."""

from dataclasses import asdict

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.tables.accounts import audit_log
from streams.core.accounts.audit import AuditEntry


async def write_entry(connection: AsyncConnection, audit_entry: AuditEntry | None) -> None:
    """Write an entry, if there is one."""
    if audit_entry is not None:
        await connection.execute(insert(audit_log).values(asdict(audit_entry)))
