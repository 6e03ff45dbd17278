"""Query the database by its driver, because SQLAlchemy takes 20 MB, too much for a stage with a few queries."""

import asyncio
import json
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from streams.adapters.threads import run_in_worker_thread
from streams.core.errors import Misconfigured

TIMEOUT_SECONDS = 1.0
# The errors that a driver raises while the database is away.
DRIVER_ERRORS = (OSError, psycopg.Error, sqlite3.Error)

Rows = Sequence[tuple[Any, ...]]


class Queries(Protocol):
    """A read-only database. `?` stands for a parameter, and a query must not contain `%`."""

    async def rows(self, query: str, parameters: Sequence[Any] = ()) -> Rows:
        """The rows of a query. Raises the driver's error."""

    def in_condition(self, column: str, values: Sequence[str]) -> tuple[str, Any]:
        """The condition that a column has one of these values, and its parameter."""


# A server that loses power does not close its connections; without these options libpq waits for hours.
_CONNECTION_OPTIONS: Mapping[str, int] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def connect_options(url_options: Collection[str], behind_pooler: bool) -> dict[str, Any]:
    """Options of a connection. Options in DATABASE_URL take precedence.

    `behind_pooler`: a pooler gives each transaction any of its sessions, so no statement stays prepared.
    """
    limits: dict[str, Any] = {name: value for name, value in _CONNECTION_OPTIONS.items() if name not in url_options}
    return {**limits, "prepare_threshold": None} if behind_pooler else limits


class PostgresQueries:
    """Queries to PostgreSQL, on one connection that is reopened after a failure."""

    def __init__(self, url: str, behind_pooler: bool = False) -> None:
        self._url = url
        self._options = connect_options(conninfo_to_dict(url), behind_pooler)
        self._connection: psycopg.AsyncConnection | None = None
        # Two callers at once would open two connections, and lose one.
        self._lock = asyncio.Lock()

    async def rows(self, query: str, parameters: Sequence[Any] = ()) -> Rows:
        query = query.replace("?", "%s")
        async with self._lock:
            was_open = self._connection is not None
            try:
                return await self._rows(query, parameters)
            except psycopg.OperationalError:
                # The server or a proxy may have closed the idle connection.
                if not was_open:
                    raise
                return await self._rows(query, parameters)

    async def _rows(self, query: str, parameters: Sequence[Any]) -> Rows:
        try:
            if self._connection is None:
                self._connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, **self._options)
            cursor = await self._connection.execute(query.encode(), parameters)
            return await cursor.fetchall()
        except BaseException:
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(OSError, psycopg.Error):
                    await connection.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def in_condition(self, column: str, values: Sequence[str]) -> tuple[str, Any]:
        return f"{column} = ANY(?)", list(values)


class SqliteQueries:
    """Queries to SQLite. It opens the file for each query, which costs less than a thread for one connection."""

    def __init__(self, path: Path) -> None:
        self._address = f"file:{quote(str(path))}?mode=rw"

    async def rows(self, query: str, parameters: Sequence[Any] = ()) -> Rows:
        return await run_in_worker_thread(lambda: self._rows(query, parameters))

    def _rows(self, query: str, parameters: Sequence[Any]) -> Rows:
        connection = sqlite3.connect(self._address, timeout=TIMEOUT_SECONDS, uri=True)
        try:
            return connection.execute(query, parameters).fetchall()
        finally:
            connection.close()

    def in_condition(self, column: str, values: Sequence[str]) -> tuple[str, Any]:
        return f"{column} IN (SELECT value FROM json_each(?))", json.dumps(list(values))


def queries_of(url: str, behind_pooler: bool = False) -> Queries:
    """The database at `url`, a `DATABASE_URL`. A file may be created later. Raises `Misconfigured`."""
    scheme, _, address = url.partition(":")
    if scheme.startswith("sqlite"):
        return SqliteQueries(Path(address.removeprefix("///").partition("?")[0]))
    address_for_libpq = libpq_url(url)
    try:
        ports = str(conninfo_to_dict(address_for_libpq).get("port") or "")
        # libpq checks the port only when it connects.
        is_url = all(port.isdigit() for port in ports.split(",") if port)
    except psycopg.Error:
        is_url = False
    if not is_url:
        raise Misconfigured("DATABASE_URL: must be a URL such as postgresql://user@host/name")
    return PostgresQueries(address_for_libpq, behind_pooler)


def libpq_url(url: str) -> str:
    """The address without the name of SQLAlchemy's driver, as in `postgresql+psycopg`, which libpq does not take."""
    scheme, _, address = url.partition(":")
    return f"{scheme.partition('+')[0]}:{address}"
