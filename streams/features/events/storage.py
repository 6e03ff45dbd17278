"""Find existing accounts, and the webhooks that take an event type."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from streams.adapters.sql.engine.database import Database, SqlStorage
from streams.adapters.sql.tables.accounts import accounts
from streams.adapters.sql.tables.deliveries import webhooks
from streams.adapters.sql.webhooks.webhook_rows import FILTER_CHARACTERS, SCOPE_CHARACTERS
from streams.core.events.event_filter import EventFilter
from streams.core.records.record_checks import parse_recorded_filter
from streams.core.webhooks.webhook import ALL_EVENTS, Webhook

# Databases limit the parameters of a query. A request to the API names fewer accounts.
IDS_PER_QUERY = 1000
# Ten accounts with the most webhooks that an account may have: 0.1 s of this process's time.
MAX_WEBHOOKS = 10_000
# For scopes and filters: 100 000 ids of 40 characters, or 1 000 of the longest filters: 0.2 s of this process's time.
MAX_SCOPE_AND_FILTER_CHARACTERS = 4_000_000
# Every other caller waits while rows are parsed: a few milliseconds for this many.
ROWS_PER_TURN = 250
CHARACTERS_PER_TURN = 100_000

_EMPTY_SCOPE_CHARACTERS = len("[][]")


class SqlAccountWebhooks(SqlStorage):
    """`AccountWebhooks` in SQL. It parses rows in portions, so that the event loop serves other callers in between."""

    def __init__(
        self,
        database: Database,
        *,
        max_webhooks: int = MAX_WEBHOOKS,
        max_scope_and_filter_characters: int = MAX_SCOPE_AND_FILTER_CHARACTERS,
    ) -> None:
        super().__init__(database)
        self._max_webhooks = max_webhooks
        self._max_characters = max_scope_and_filter_characters

    async def existing_accounts(self, account_ids: Collection[str]) -> Collection[str]:
        """The accounts among these that exist."""
        existing: set[str] = set()
        async with self._database.read_transaction() as connection:
            for portion in _portions(sorted(account_ids)):
                existing.update(await connection.scalars(select(accounts.c.id).where(accounts.c.id.in_(portion))))
        return existing

    async def webhooks_taking(
        self, account_ids: Collection[str], event_types: Collection[str]
    ) -> Mapping[str, Sequence[Webhook]] | None:
        """The webhooks that take one of the types, by account, with the fields that `wants` reads.

        None if they, or their scopes and filters, are too many to compare within a request.
        """
        rows: list[Any] = []
        webhook_count = characters = 0
        async with self._database.read_transaction() as connection:
            async for row in _live_webhooks(connection, account_ids):
                webhook_count += 1
                if not row.event_types or not {ALL_EVENTS, *event_types}.isdisjoint(row.event_types):
                    rows.append(row)
                    characters += row.characters
                if webhook_count > self._max_webhooks or characters > self._max_characters:
                    return None
            scopes = await _scopes(connection, rows)
        webhooks_by_account: dict[str, list[Webhook]] = {}
        for row in rows:
            webhooks_by_account.setdefault(row.account_id, []).append(
                _to_webhook(row, *scopes.get(row.id, _EMPTY_SCOPE))
            )
        return webhooks_by_account


# Packages, dispatches and the filter.
Scope = tuple[frozenset[str], frozenset[str], EventFilter | None]
_EMPTY_SCOPE: Scope = (frozenset(), frozenset(), None)


async def _live_webhooks(connection: AsyncConnection, account_ids: Collection[str]) -> AsyncIterator[Any]:
    """Yields webhooks without their scopes and filters."""
    columns = (
        webhooks.c.id,
        webhooks.c.account_id,
        webhooks.c.event_types,
        (SCOPE_CHARACTERS + FILTER_CHARACTERS).label("characters"),
    )
    query = select(*columns).where(webhooks.c.deleted_at.is_(None)).order_by(webhooks.c.id).limit(ROWS_PER_TURN)
    for portion in _portions(sorted(account_ids)):
        last_id = ""
        while True:
            page = query.where(webhooks.c.account_id.in_(portion), webhooks.c.id > last_id)
            rows = (await connection.execute(page)).all()
            for row in rows:
                yield row
            if len(rows) < ROWS_PER_TURN:
                break
            last_id = rows[-1].id
            await asyncio.sleep(0)


async def _scopes(connection: AsyncConnection, rows: Sequence[Any]) -> Mapping[str, Scope]:
    """The packages, dispatches and filter of each webhook that has some."""
    query = select(webhooks.c.id, webhooks.c.packages, webhooks.c.dispatches, webhooks.c.filter)
    scopes: dict[str, Scope] = {}
    for ids in _id_batches_by_scope_size(rows):
        for row in await connection.execute(query.where(webhooks.c.id.in_(ids))):
            event_filter = parse_recorded_filter(row.filter) if row.filter else None
            scopes[row.id] = (frozenset(row.packages), frozenset(row.dispatches), event_filter)
        await asyncio.sleep(0)
    return scopes


def _portions(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), IDS_PER_QUERY):
        yield ids[start : start + IDS_PER_QUERY]


def _id_batches_by_scope_size(rows: Sequence[Any]) -> Iterator[Sequence[str]]:
    ids: list[str] = []
    characters = 0
    for row in rows:
        if row.characters <= _EMPTY_SCOPE_CHARACTERS:
            continue
        if ids and (characters + row.characters > CHARACTERS_PER_TURN or len(ids) == ROWS_PER_TURN):
            yield ids
            ids, characters = [], 0
        ids.append(row.id)
        characters += row.characters
    if ids:
        yield ids


def _to_webhook(
    row: Any, packages: frozenset[str], dispatches: frozenset[str], event_filter: EventFilter | None
) -> Webhook:
    return Webhook(
        id=row.id,
        account_id=row.account_id,
        url="",
        secrets=(),
        event_types=frozenset(row.event_types),
        packages=packages,
        dispatches=dispatches,
        filter=event_filter,
    )
