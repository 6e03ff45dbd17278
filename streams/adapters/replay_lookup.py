"""Ask which generation of a delivery is the newest, many at once, and never make a delivery wait for a database."""

import asyncio
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from streams.adapters.threads import in_worker_thread
from streams.core.errors import Misconfigured, Unavailable
from streams.ports import ReplayLookup, Telemetry

ASK_AT_ONCE = 1000
PATIENCE_SECONDS = 1.0
# After a failure nobody is asked for so long: what comes due meanwhile is sent, perhaps besides its replay.
REST_SECONDS = 5.0


class Table(Protocol):
    """The table of deliveries, asked by the driver itself: an ORM's 20 MB for one query are too many."""

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        """The generation of each delivery that is there; raises the driver's error."""


class SqlReplayLookup:
    """A `ReplayLookup` that fails open."""

    def __init__(self, table: Table, telemetry: Telemetry) -> None:
        self._table = table
        self._telemetry = telemetry
        self._asked: dict[str, asyncio.Future[int | None]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._away = False

    async def newest(self, delivery_id: str) -> int | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return None
        response = self._asked.setdefault(delivery_id, loop.create_future())
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask())
        return await response

    async def _ask(self) -> None:
        """Answer until nobody asks; whoever asks meanwhile is in the next query."""
        try:
            while self._asked:
                asked = dict(list(self._asked.items())[:ASK_AT_ONCE])
                self._asked = {name: response for name, response in self._asked.items() if name not in asked}
                try:
                    found = await self._find(list(asked))
                    for delivery_id, response in asked.items():
                        if not response.done():
                            response.set_result(found.get(delivery_id))
                except Exception as unexpected:
                    # Whoever asked ends with it, and does not wait for ever.
                    for response in asked.values():
                        if not response.done():
                            response.set_exception(unexpected)
        finally:
            self._asking = None

    async def _find(self, ids: list[str]) -> Mapping[str, int]:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await self._table.find(ids)
        except (TimeoutError, OSError, Unavailable, psycopg.Error, sqlite3.Error) as away:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS
            if not self._away:
                message = f"{type(away).__name__}: {str(away).partition(chr(10))[0]}"
                self._telemetry.info("database unavailable; what is due is sent without asking it", why=message)
            self._away = True
            return {}
        self._away = False
        return found


class NoReplayLookup:
    """A `ReplayLookup` where there is no database to ask."""

    async def newest(self, delivery_id: str) -> int | None:
        return None


class PostgresTable:
    """On PostgreSQL, by one connection that is opened anew after a failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection | None = None

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        was_open = self._connection is not None
        try:
            return await self._find(ids)
        except psycopg.OperationalError:
            # The server, or something on the way, may have cut a connection that was idle.
            if not was_open:
                raise
            return await self._find(ids)

    async def _find(self, ids: list[str]) -> Mapping[str, int]:
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True)
            cursor = await self._connection.execute("SELECT id, generation FROM deliveries WHERE id = ANY(%s)", [ids])
            return dict(await cursor.fetchall())
        except BaseException:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(OSError, psycopg.Error):
                    await connection.close()
            raise


class SqliteTable:
    """On SQLite, whose file is opened for each query: that costs less than to keep a thread for it."""

    def __init__(self, path: Path) -> None:
        self._address = f"file:{quote(str(path))}?mode=rw"

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        return await in_worker_thread(lambda: self._find(ids))

    def _find(self, ids: list[str]) -> Mapping[str, int]:
        marks = ", ".join("?" * len(ids))
        connection = sqlite3.connect(self._address, timeout=PATIENCE_SECONDS, uri=True)
        try:
            return dict(connection.execute(f"SELECT id, generation FROM deliveries WHERE id IN ({marks})", ids))
        finally:
            connection.close()


def replay_lookup(url: str, telemetry: Telemetry) -> ReplayLookup:
    """What `deliver` asks of the database at `url`, a `DATABASE_URL`; `Misconfigured` says what would be right."""
    scheme, _, rest = url.partition(":")
    if scheme.startswith("sqlite"):
        path = Path(rest.removeprefix("///").partition("?")[0])
        return SqlReplayLookup(SqliteTable(path), telemetry) if path.exists() else NoReplayLookup()
    try:
        # A driver may be named, as in `postgresql+psycopg`; libpq knows of none.
        libpq = f"{scheme.partition('+')[0]}:{rest}"
        conninfo_to_dict(libpq)
    except psycopg.Error:
        raise Misconfigured("DATABASE_URL: must be a URL such as postgresql://user@host/name") from None
    return SqlReplayLookup(PostgresTable(libpq), telemetry)
