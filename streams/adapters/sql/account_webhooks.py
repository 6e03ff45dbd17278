"""Which webhooks accounts have, for those who ask which of them want an event."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from streams.adapters.sql.database import Database
from streams.adapters.sql.people_tables import accounts
from streams.adapters.sql.tables import webhooks
from streams.core.webhook import Webhook

# Databases bound the parameters of a query. A request of the API names fewer accounts.
IDS_AT_ONCE = 1000


class SqlAccountWebhooks:
    """`AccountWebhooks` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_accounts(self, account_ids: Collection[str]) -> Mapping[str, Sequence[Webhook]]:
        theirs = (webhooks.c.account_id == accounts.c.id) & webhooks.c.deleted_at.is_(None)
        ids = sorted(account_ids)
        columns = (webhooks.c.id, webhooks.c.event_types, webhooks.c.packages, webhooks.c.dispatches)
        query = select(accounts.c.id.label("account_id"), *columns).select_from(accounts.outerjoin(webhooks, theirs))
        found: dict[str, list[Webhook]] = {}
        async with self._database.reading() as connection:
            for start in range(0, len(ids), IDS_AT_ONCE):
                some = query.where(accounts.c.id.in_(ids[start : start + IDS_AT_ONCE]))
                for row in await connection.execute(some):
                    known = found.setdefault(row.account_id, [])
                    if row.id is not None:
                        known.append(_matched_by(row))
        return found


def _matched_by(row: Any) -> Webhook:
    return Webhook(
        id=row.id,
        account_id=row.account_id,
        url="",
        secrets=(),
        event_types=frozenset(row.event_types),
        packages=frozenset(row.packages),
        dispatches=frozenset(row.dispatches),
    )
