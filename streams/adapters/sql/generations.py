"""Ask which generation of a delivery is the newest, many at once, and never make a delivery wait for a database."""

import asyncio
from collections.abc import Mapping

from sqlalchemy import select

from streams.adapters.sql.database import Database
from streams.adapters.sql.tables import deliveries
from streams.core.errors import Unavailable
from streams.ports import Report

ASK_AT_ONCE = 1000
PATIENCE_SECONDS = 1.0
# After a failure nobody is asked for so long: what comes due meanwhile is sent, perhaps besides its replay.
REST_SECONDS = 5.0


class SqlGenerations:
    """A `Generations` that fails open."""

    def __init__(self, database: Database, report: Report) -> None:
        self._database = database
        self._report = report
        self._asked: dict[str, asyncio.Future[int | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._away = False

    async def newest(self, delivery_id: str) -> int | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return None
        answer = self._asked.setdefault(delivery_id, loop.create_future())
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await answer

    async def _ask(self) -> None:
        """Answer until nobody asks; whoever asks meanwhile is in the next query."""
        try:
            while self._asked:
                asked = dict(list(self._asked.items())[:ASK_AT_ONCE])
                self._asked = {name: answer for name, answer in self._asked.items() if name not in asked}
                found = await self._find(list(asked))
                for delivery_id, answer in asked.items():
                    if not answer.done():
                        answer.set_result(found.get(delivery_id))
        finally:
            self._asking = None

    async def _find(self, ids: list[str]) -> Mapping[str, int]:
        query = select(deliveries.c.id, deliveries.c.generation).where(deliveries.c.id.in_(ids))
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._database.reading() as connection:
                found = {row.id: row.generation for row in await connection.execute(query)}
        except (TimeoutError, Unavailable) as away:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS
            if not self._away:
                self._report.tell("database unavailable; what is due is sent without asking it", why=str(away))
            self._away = True
            return {}
        self._away = False
        return found


class NoGenerations:
    """A `Generations` where there is no database to ask."""

    async def newest(self, delivery_id: str) -> int | None:
        return None
