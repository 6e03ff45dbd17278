"""Limits of an account's objects."""

from sqlalchemy import ColumnElement, Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.deliveries import webhooks
from streams.adapters.sql.webhooks.webhook_rows import TEXT_CHARACTERS
from streams.core.errors import Conflict
from streams.core.limits import MAX_SCOPE_IDS_PER_ACCOUNT, MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT
from streams.core.webhooks.webhook import Webhook

_TOO_MANY_SCOPE_IDS_MESSAGE = (
    "the account's webhooks would have {count} scope ids together, and may have at most {limit}: "
    "name fewer packages and dispatches"
)
_TOO_LONG_MESSAGE = (
    "the account's webhooks would have URLs, headers, filters and rules of {count} characters together, "
    "and may have at most {limit}: use shorter ones, or delete a webhook first"
)


async def require_row_limit(
    connection: AsyncConnection,
    account_id: str,
    table: Table,
    is_counted: ColumnElement[bool],
    limit: int,
    message: str,
) -> None:
    """Raise `Conflict` if the account has `limit` of these rows. `message` has `{count}` and `{limit}`."""
    await _lock(connection, account_id)
    own_rows = select(func.count()).select_from(table).where(table.c.account_id == account_id, is_counted)
    if (count := (await connection.execute(own_rows)).scalar_one()) >= limit:
        raise Conflict(message.format(count=count, limit=limit))


async def require_webhook_limits(
    connection: AsyncConnection, webhook: Webhook, previous: Webhook | None = None
) -> None:
    """Raise `Conflict` if this webhook, or its change, makes the total size of the account's webhooks too large.

    An account above a lowered limit keeps its webhooks, and may make any other change.
    """
    added_ids = webhook.scope_id_count - (previous.scope_id_count if previous else 0)
    added_characters = webhook.text_length - (previous.text_length if previous else 0)
    if added_ids <= 0 and added_characters <= 0:
        return
    await _lock(connection, webhook.account_id)
    own_webhooks = webhooks.c.account_id == webhook.account_id, webhooks.c.deleted_at.is_(None)
    ids, characters = (
        await connection.execute(select(_SCOPE_ID_COUNT, func.sum(TEXT_CHARACTERS)).where(*own_webhooks))
    ).one()
    for added, existing, limit, message in (
        (added_ids, ids, MAX_SCOPE_IDS_PER_ACCOUNT, _TOO_MANY_SCOPE_IDS_MESSAGE),
        (added_characters, characters, MAX_WEBHOOK_CHARACTERS_PER_ACCOUNT, _TOO_LONG_MESSAGE),
    ):
        if added > 0 and (count := (existing or 0) + added) > limit:
            raise Conflict(message.format(count=count, limit=limit))


_SCOPE_ID_COUNT = func.sum(func.json_array_length(webhooks.c.packages) + func.json_array_length(webhooks.c.dispatches))


async def _lock(connection: AsyncConnection, account_id: str) -> None:
    """The second of two concurrent callers waits here, then counts the first one's rows. Foreign keys do not wait."""
    row = select(accounts.c.id).where(accounts.c.id == account_id)
    await connection.execute(row.with_for_update(key_share=True))
