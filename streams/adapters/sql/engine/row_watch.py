"""Wait for rows that another process stores."""

import asyncio
import time

from sqlalchemy import Table

from streams.adapters.sql.engine.database import Database

BUSY_POLL_SECONDS = 0.05
# The interval to use once nothing has been found for a while. A check costs a process as much as handling an event.
IDLE_POLL_SECONDS = 0.2
BUSY_SECONDS = 60.0
MAX_WAIT_SECONDS = 1.0


class RowWatch:
    """Checks whether a table has a row; for a minute after it had one, it checks often. Holds no connection between."""

    def __init__(self, database: Database, table: Table) -> None:
        self._database = database
        self._table = table
        self._busy_until = 0.0

    async def wait(self) -> None:
        """Wait until there is a row, up to a second. Raises `Unavailable`."""
        deadline = time.monotonic() + MAX_WAIT_SECONDS
        while (now := time.monotonic()) < deadline:
            await asyncio.sleep(BUSY_POLL_SECONDS if now < self._busy_until else IDLE_POLL_SECONDS)
            if await self._database.has_any(self._table):
                self._busy_until = time.monotonic() + BUSY_SECONDS
                return
