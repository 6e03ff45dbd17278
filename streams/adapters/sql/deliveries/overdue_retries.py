"""Send retries again if their record is gone, for example with a topic that was deleted and made again."""

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import and_, case, func, literal, select, update

from streams.adapters.sql.deliveries.replays import HAS_PAYLOAD, NEW_GENERATION
from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.tables.deliveries import IS_NOT_DELIVERED, deliveries, newest_change
from streams.core.deliveries.delivery import DeathReason, State
from streams.ports.runtime import Clock

NO_PAYLOAD_MESSAGE = "Its retry was lost, and its payload is not stored any more."
_EXPIRED_VALUES = {"state": State.DEAD, "reason": DeathReason.EXPIRED, "message": NO_PAYLOAD_MESSAGE}
_columns = deliveries.c
_IS_RETRY = and_(IS_NOT_DELIVERED, _columns.state == State.WAITING, _columns.tier.is_not(None))


class SqlOverdueRetries:
    """`OverdueRetries` in SQL. A retry that is sent again is held until `publish` releases it."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def resend(self, due_before: datetime, limit: int) -> int:
        overdue = select(_columns.id).where(_IS_RETRY, _columns.due_at < due_before).limit(limit)
        async with self._database.transaction() as connection:
            delivery_ids = [row.id for row in await connection.execute(overdue)]
            # The recorder locks in id order, too. Another order could deadlock.
            lock = select(_columns.id).where(_columns.id.in_(delivery_ids), _IS_RETRY, _columns.due_at < due_before)
            ids = [row.id for row in await connection.execute(lock.order_by(_columns.id).with_for_update())]
            changed_at = newest_change(literal(self._clock.now(), _columns.changed_at.type))
            lost_values = {
                name: case((HAS_PAYLOAD, NEW_GENERATION[name]), else_=end) for name, end in _EXPIRED_VALUES.items()
            }
            values = {**NEW_GENERATION, **lost_values, "changed_at": changed_at}
            await connection.execute(update(deliveries).where(_columns.id.in_(ids)).values(values))
            return len(ids)

    async def count_by_tier(self) -> Mapping[str, int]:
        """The number of deliveries that wait in each tier."""
        query = select(_columns.tier, func.count().label("number")).where(_IS_RETRY).group_by(_columns.tier)
        return {row.tier: row.number for row in await self._database.rows(query)}
