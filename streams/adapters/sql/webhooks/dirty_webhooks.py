"""Give a changed webhook its version, and make it due for the topic, in the same transaction."""

from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.dialects import insert
from streams.adapters.sql.tables.deliveries import dirty_webhooks


def next_version(old_version: int, now: datetime) -> int:
    """max(now in milliseconds, old + 1): a version grows even if the clock stands still or goes back."""
    return max(int(now.timestamp() * 1000), old_version + 1)


async def mark_webhook_dirty(connection: AsyncConnection, webhook_id: str, version: int) -> None:
    """Make this version of a webhook due for the topic, unless a newer one is due."""
    statement = insert(dirty_webhooks).values(webhook_id=webhook_id, version=version)
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=[dirty_webhooks.c.webhook_id],
            set_={"version": statement.excluded.version},
            where=statement.excluded.version > dirty_webhooks.c.version,
        )
    )
