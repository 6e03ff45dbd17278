"""Look up the newest generation of deliveries, many in one query. A delivery never waits for the database."""

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
from streams.outage import DATABASE, Outage
from streams.ports import ReplayLookup, Telemetry

IDS_IN_A_QUERY = 1000
TIMEOUT_SECONDS = 1.0
# No query for this long after a failure. Retries that come due meanwhile are sent, even if a replay sent them.
REST_SECONDS = 5.0


class Table(Protocol):
    """The table of deliveries, read by the driver: SQLAlchemy takes 20 MB, too much for one query."""

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        """The generation of each delivery that is stored. Raises the driver's error."""


class SqlReplayLookup:
    """A `ReplayLookup` that fails open: without an answer the retry is sent."""

    def __init__(self, table: Table, telemetry: Telemetry) -> None:
        self._table = table
        self._waiting: dict[str, asyncio.Future[int | None]] = {}
        self._query_task: asyncio.Task[None] | None = None
        self._rests_until = 0.0
        self._database = Outage(
            telemetry, DATABASE, {"effect": "retries are sent although a replay may have sent them"}
        )

    async def newest(self, delivery_id: str) -> int | None:
        loop = asyncio.get_running_loop()
        if loop.time() < self._rests_until:
            return None
        response = self._waiting.setdefault(delivery_id, loop.create_future())
        if self._query_task is None:
            self._query_task = asyncio.create_task(self._ask())
        return await response

    async def _ask(self) -> None:
        """Query until no caller waits. Callers that come during a query are in the next one."""
        try:
            while self._waiting:
                waiting = dict(list(self._waiting.items())[:IDS_IN_A_QUERY])
                self._waiting = {name: response for name, response in self._waiting.items() if name not in waiting}
                try:
                    found = await self._find(list(waiting))
                    for delivery_id, response in waiting.items():
                        if not response.done():
                            response.set_result(found.get(delivery_id))
                except Exception as unexpected:
                    # Without this, the callers would wait for ever.
                    for response in waiting.values():
                        if not response.done():
                            response.set_exception(unexpected)
        finally:
            self._query_task = None

    async def _find(self, ids: list[str]) -> Mapping[str, int]:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await self._table.find(ids)
        except (TimeoutError, OSError, Unavailable, psycopg.Error, sqlite3.Error) as away:
            self._rests_until = asyncio.get_running_loop().time() + REST_SECONDS
            self._database.begin(self, f"{type(away).__name__}: {str(away).partition(chr(10))[0]}")
            return {}
        self._database.end(self)
        return found


class NoReplayLookup:
    """A `ReplayLookup` without a database: it knows no generation."""

    async def newest(self, delivery_id: str) -> int | None:
        return None


class PostgresTable:
    """PostgreSQL's, by one connection that is reopened after a failure."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.AsyncConnection | None = None

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        was_open = self._connection is not None
        try:
            return await self._find(ids)
        except psycopg.OperationalError:
            # The server or a proxy may have closed the idle connection.
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
    """SQLite's. It opens the file for each query, which costs less than a thread for one connection."""

    def __init__(self, path: Path) -> None:
        self._address = f"file:{quote(str(path))}?mode=rw"

    async def find(self, ids: list[str]) -> Mapping[str, int]:
        return await in_worker_thread(lambda: self._find(ids))

    def _find(self, ids: list[str]) -> Mapping[str, int]:
        marks = ", ".join("?" * len(ids))
        connection = sqlite3.connect(self._address, timeout=TIMEOUT_SECONDS, uri=True)
        try:
            return dict(connection.execute(f"SELECT id, generation FROM deliveries WHERE id IN ({marks})", ids))
        finally:
            connection.close()


def replay_lookup(url: str, telemetry: Telemetry) -> ReplayLookup:
    """The look-up in the database at `url`, a `DATABASE_URL`. Raises `Misconfigured`."""
    scheme, _, rest = url.partition(":")
    if scheme.startswith("sqlite"):
        path = Path(rest.removeprefix("///").partition("?")[0])
        return SqlReplayLookup(SqliteTable(path), telemetry) if path.exists() else NoReplayLookup()
    try:
        # libpq does not take SQLAlchemy's driver names, as in `postgresql+psycopg`.
        libpq = f"{scheme.partition('+')[0]}:{rest}"
        conninfo_to_dict(libpq)
    except psycopg.Error:
        raise Misconfigured("DATABASE_URL: must be a URL such as postgresql://user@host/name") from None
    return SqlReplayLookup(PostgresTable(libpq), telemetry)
