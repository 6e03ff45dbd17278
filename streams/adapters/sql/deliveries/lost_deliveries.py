"""End deliveries that waited in an embedded broker that has ended."""

from sqlalchemy import case, update

from streams.adapters.sql.engine.database import Database
from streams.adapters.sql.tables.deliveries import deliveries
from streams.core.deliveries.delivery import DeathReason, State, Trigger
from streams.ports.runtime import Clock

LOST_MESSAGE = "The embedded broker ended while the delivery waited in it. It stores nothing on disk."


class SqlLostDeliveries:
    """Ends waiting deliveries. Run it before the new broker has any record."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def end_all(self) -> int:
        """Make each waiting delivery a dead letter, which a person may retry; tests fail. Returns the count."""
        columns = deliveries.c
        statement = (
            update(deliveries)
            .where(columns.state == State.WAITING)
            .values(
                step=columns.step + 1,
                state=case((columns.trigger == Trigger.TEST, State.FAILED), else_=State.DEAD),
                reason=DeathReason.BROKER_RESTARTED,
                message=LOST_MESSAGE,
                tier=None,
                due_at=None,
                changed_at=self._clock.now(),
            )
        )
        async with self._database.transaction() as connection:
            return (await connection.execute(statement)).rowcount
