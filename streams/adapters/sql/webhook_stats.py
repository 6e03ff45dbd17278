"""Read the statistics of a webhook."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from streams.adapters.sql.database import Database
from streams.adapters.sql.tables import (
    NOT_DELIVERED,
    deliveries,
    hourly_attempts,
    response_times,
    webhook_health,
    webhooks,
)
from streams.core.delivery import State
from streams.core.delivery_state import StateCount
from streams.core.webhook_stats import FailureStreak, Hour, ResponseTimes


class SqlWebhookStats:
    """`WebhookStats` in SQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def failing(self, webhook_id: str) -> FailureStreak:
        query = (
            select(webhook_health)
            .join(
                webhooks,
                (webhooks.c.id == webhook_health.c.webhook_id) & (webhooks.c.health_epoch == webhook_health.c.epoch),
            )
            .where(webhook_health.c.webhook_id == webhook_id)
        )
        async with self._database.reading() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return FailureStreak()
        return FailureStreak(row.failures, row.first_failed_at, row.last_failed_at, row.last_status, row.last_message)

    async def hours(self, webhook_id: str, since: datetime) -> Sequence[Hour]:
        query = select(hourly_attempts).where(
            hourly_attempts.c.webhook_id == webhook_id, hourly_attempts.c.hour >= since
        )
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(hourly_attempts.c.hour, hourly_attempts.c.outcome))
            return [Hour(*row) for row in found]

    async def response_times(self, webhook_id: str, since: datetime) -> Sequence[ResponseTimes]:
        known = response_times.c
        query = select(response_times).where(known.webhook_id == webhook_id, known.hour >= since)
        async with self._database.reading() as connection:
            found = await connection.execute(query.order_by(known.hour, known.up_to_ms))
            return [ResponseTimes(*row) for row in found]

    async def last_at(self, webhook_id: str, outcome: str) -> datetime | None:
        this = (hourly_attempts.c.webhook_id == webhook_id) & (hourly_attempts.c.outcome == outcome)
        async with self._database.reading() as connection:
            found: datetime | None = await connection.scalar(select(func.max(hourly_attempts.c.last_at)).where(this))
            return found

    async def unfinished(self, webhook_id: str) -> Sequence[StateCount]:
        unfinished = NOT_DELIVERED & deliveries.c.state.in_(_UNFINISHED)
        place = (deliveries.c.state, deliveries.c.tier, deliveries.c.reason)
        query = select(*place, func.count().label("how_many")).where(deliveries.c.webhook_id == webhook_id, unfinished)
        async with self._database.reading() as connection:
            rows = await connection.execute(query.group_by(*place))
            return [StateCount(State(row.state), row.tier, row.reason, row.how_many) for row in rows]


_UNFINISHED = (State.WAITING, State.HELD, State.DEAD)
