"""Count the waiting work of the whole deployment."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, func, select

from streams.adapters.sql.engine.database import SqlStorage
from streams.adapters.sql.tables.deliveries import IS_NOT_DELIVERED, deliveries, webhooks
from streams.core.deliveries.backlog import Backlog, WaitingCount
from streams.core.deliveries.delivery import State

_NO_REASON = "none"


class SqlBacklogs(SqlStorage):
    """`Backlogs` in SQL."""

    async def read(self) -> Backlog:
        webhook_columns, delivery_columns = webhooks.c, deliveries.c
        by_status = (
            select(webhook_columns.status, func.count().label("number"))
            .where(webhook_columns.deleted_at.is_(None))
            .group_by(webhook_columns.status)
        )
        retries = _select_waiting(State.WAITING, delivery_columns.tier, delivery_columns.due_at).where(
            delivery_columns.tier.is_not(None)
        )
        held_by_reason = _select_waiting(State.HELD, delivery_columns.reason, delivery_columns.changed_at)
        dead = _select_waiting(State.DEAD, delivery_columns.reason, delivery_columns.changed_at)
        async with self._database.read_transaction() as connection:
            return Backlog(
                webhooks={row.status: row.number for row in await connection.execute(by_status)},
                retries=_by_name(await connection.execute(retries)),
                held=_by_name(await connection.execute(held_by_reason)),
                dead=_by_name(await connection.execute(dead)),
            )


def _select_waiting(state: State, name: Any, since: Any) -> Select[Any]:
    return (
        select(name.label("name"), func.count().label("number"), func.min(since).label("since"))
        .where(IS_NOT_DELIVERED & (deliveries.c.state == state))
        .group_by(name)
    )


def _by_name(rows: Any) -> Mapping[str, WaitingCount]:
    return {row.name or _NO_REASON: WaitingCount(row.number, row.since) for row in rows}
