"""Mask a learner's id in the texts of rows."""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Table, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.tables.accounts import mails
from streams.adapters.sql.tables.deliveries import webhook_health
from streams.core.accounts.mail import MailKind
from streams.core.erasures.erasure import mask_learner

# A person who signs in is a user of the account.
MAY_NAME_LEARNERS = mails.c.kind != MailKind.SIGN_IN


async def redact(
    connection: AsyncConnection, learner_id: str, table: Table, rows: Sequence[Any], *columns: Column[Any]
) -> int:
    """Mask the learner's id in these columns. Returns the number of rows that had it."""
    [key] = table.primary_key.columns
    count = 0
    for row in rows:
        old_values = {column.name: getattr(row, column.name) for column in columns}
        new_values = mask_learner(old_values, learner_id)
        if new_values != old_values:
            await connection.execute(update(table).where(key == getattr(row, key.name)).values(new_values))
            count += 1
    return count


async def redact_last_messages(connection: AsyncConnection, learner_id: str, rows: Sequence[Any]) -> int:
    """The same for these rows of `webhook_health`: an endpoint's message may repeat the id."""
    return await redact(connection, learner_id, webhook_health, rows, webhook_health.c.last_message)


async def redact_mails(connection: AsyncConnection, learner_id: str, rows: Sequence[Any]) -> int:
    """The same for these mails, which repeat an endpoint's message."""
    return await redact(connection, learner_id, mails, rows, mails.c.details, mails.c.problem, mails.c.others)


async def redact_messages(connection: AsyncConnection, learner_id: str, webhook_ids: Collection[str]) -> None:
    """The same for the messages and mails of these webhooks."""
    health = select(webhook_health).where(webhook_health.c.webhook_id.in_(webhook_ids))
    await redact_last_messages(connection, learner_id, (await connection.execute(health)).all())
    sent_mails = select(mails).where(mails.c.webhook_id.in_(webhook_ids), MAY_NAME_LEARNERS)
    await redact_mails(connection, learner_id, (await connection.execute(sent_mails)).all())
