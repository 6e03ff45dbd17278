"""Open connections and transactions, and translate the database's errors."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

from sqlalchemy import Executable, Table, event, literal, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import QueuePool

from streams.adapters.driver_queries import DRIVER_ERRORS, PostgresQueries, connect_options, libpq_url
from streams.adapters.sql.engine.pooler import SESSION_SETTINGS
from streams.adapters.sql.engine.sqlite_file import BUSY_TIMEOUT_SECONDS, SqliteConnections
from streams.core.errors import Misconfigured, RowRefused, Unavailable
from streams.core.queues.request_class import TURN_SECONDS, connection_limits
from streams.fair_places import FairPlaces, NoPlace
from streams.request_owner import RequestOwner, current_owner, request_started_at

# SQLite has one writer, and as many readers as its engine's pool keeps.
SQLITE_WRITERS, SQLITE_READERS = 1, 5
CLOSE_WAIT_SECONDS = 2.0
POLL_SECONDS = 0.002
# The name of this system's sessions in `pg_stat_activity`, unless DATABASE_URL sets another one.
APPLICATION_NAME = "scorm-webhooks"
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "sqlite": "sqlite+aiosqlite",
}


def database_url(text: str) -> URL:
    """Parse `postgresql://…` or `sqlite:///path`, and set the driver. Raises `Misconfigured`."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # the port is not a number
        raise Misconfigured("DATABASE_URL: must be a URL such as postgresql://user@host/name") from None
    driver = _DRIVERS.get(url.drivername.partition("+")[0])
    if driver is None:
        raise Misconfigured(f"DATABASE_URL: {url.drivername} is not supported; use postgresql:// or sqlite:///")
    return url.set(drivername=driver)


class _SharedRead(NamedTuple):
    """A transaction shared by the reads of a task."""

    database: "Database"
    task: "asyncio.Task[Any] | None"
    connection: AsyncConnection


_shared_read: ContextVar[_SharedRead | None] = ContextVar("shared_read", default=None)


class PoolUse(NamedTuple):
    """The use of a pool's connections."""

    size: int
    in_use: int
    idle: int


class Database:
    """A pool of connections. `transaction` yields a connection, and commits at the end of the block.

    On PostgreSQL there are `pool_size` connections; the next caller waits for one for `pool_seconds`. `behind_pooler`
    means that they lead to a pooler in transaction mode. Work for a request waits for its class's and account's turn.
    """

    def __init__(self, url: URL, pool_size: int = 5, pool_seconds: float = 10.0, behind_pooler: bool = False) -> None:
        self.url = url
        self._user_count = 0
        self._problem: str | None = None
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._connections = SqliteConnections(url) if self.is_sqlite else None
        if self._connections:
            self._engine = self._separate_engine = _sqlite_engine(url, self._connections, "BEGIN IMMEDIATE")
            self._read_engine = _sqlite_engine(url, self._connections, "BEGIN")
        else:
            self._engine = self._read_engine = _postgres_engine(url, pool_size, pool_seconds, behind_pooler)
            # One connection stays open. The others serve while that one is dead but not yet replaced.
            self._separate_engine = _postgres_engine(url, 1, pool_seconds, behind_pooler, max_overflow=3)
        self._engines = {self._engine, self._read_engine, self._separate_engine}
        writers = SQLITE_WRITERS if self.is_sqlite else pool_size
        self._turns = FairPlaces(writers, connection_limits(writers))
        self._read_turns = (
            FairPlaces(SQLITE_READERS, connection_limits(SQLITE_READERS)) if self.is_sqlite else self._turns
        )
        address = url.render_as_string(hide_password=False)
        self._driver = None if self.is_sqlite else PostgresQueries(libpq_url(address), behind_pooler)

    def readiness_problems(self) -> list[str]:
        """Why nothing can be stored at the moment."""
        return [self._problem] if self._problem else []

    def transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may write. Raises `RowRefused` for a row that the database rejects, and `Unavailable`."""
        return self._in_turn(self._turns, self._engine)

    def read_transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that only reads. On SQLite it takes no write lock."""
        shared = _shared_read.get()
        # A task started by this one inherits the variable, but cannot use the connection at the same time.
        if shared is not None and (shared.database, shared.task) == (self, asyncio.current_task()):
            return nullcontext(shared.connection)
        return self._in_turn(self._read_turns, self._read_engine)

    @asynccontextmanager
    async def shared_read_transaction(self) -> AsyncIterator[None]:
        """All reads of this task in the block share a transaction: one turn, and a third of the round trips."""
        async with self.read_transaction() as connection:
            token = _shared_read.set(_SharedRead(self, asyncio.current_task(), connection))
            try:
                yield
            finally:
                _shared_read.reset(token)

    async def rows(self, query: Executable) -> Sequence[Any]:
        """The rows of a query that is alone in its transaction."""
        async with self.read_transaction() as connection:
            return (await connection.execute(query)).all()

    async def row(self, query: Executable) -> Any:
        """The first row of a query; None without a row."""
        async with self.read_transaction() as connection:
            return (await connection.execute(query)).first()

    async def scalar(self, query: Executable) -> Any:
        """The first value of a query; None without a row."""
        async with self.read_transaction() as connection:
            return await connection.scalar(query)

    def separate_transaction(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction on a connection outside the pool, which waits for no other work of this process."""
        return self._open_transaction(self._separate_engine)

    def _in_turn(self, turns: FairPlaces, engine: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
        owner = current_owner()
        return self._open_transaction(engine) if owner is None else self._open_in_turn(turns, engine, owner)

    @asynccontextmanager
    async def _open_in_turn(
        self, turns: FairPlaces, engine: AsyncEngine, owner: RequestOwner
    ) -> AsyncIterator[AsyncConnection]:
        # The earlier waits of a request count, so that its turns together end in time.
        now = asyncio.get_running_loop().time()
        waited_seconds = now - request_started_at(now)
        try:
            await turns.acquire(owner.request_class, owner.account, max(0.0, TURN_SECONDS - waited_seconds))
        except NoPlace as error:
            # Others use the database, so it is available.
            raise Unavailable(f"the database has no connection for this request: {error}") from None
        try:
            async with self._open_transaction(engine) as connection:
                yield connection
        finally:
            turns.release(owner.request_class, owner.account)

    @asynccontextmanager
    async def _open_transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.begin() as connection:
                yield connection
        except (DataError, IntegrityError) as error:
            raise RowRefused(_message(error)) from error
        except (DBAPIError, OSError, PoolTimeout) as error:
            # Includes a full disk, a damaged file or a missing table: callers wait for a person, and drop nothing.
            self._problem = f"the database does not answer: {_reason(error)}"
            raise Unavailable(self._problem) from error
        except StatementError as error:  # a value that the driver cannot convert
            raise RowRefused(_message(error)) from error
        self._problem = None

    def pool_use(self) -> PoolUse:
        """The number of open connections, and the maximum."""
        engines = (self._engine, self._read_engine) if self.is_sqlite else (self._engine,)
        pools = [cast(QueuePool, engine.pool) for engine in engines]
        return PoolUse(
            size=sum(pool.size() for pool in pools),
            in_use=sum(pool.checkedout() for pool in pools),
            idle=sum(pool.checkedin() for pool in pools),
        )

    async def ping(self) -> None:
        """Raise `Unavailable` if the database does not respond."""
        async with self.read_transaction() as connection:
            await connection.execute(select(1))

    async def has_any(self, table: Table) -> bool:
        """Whether a table has a row. Raises `Unavailable`."""
        query = select(literal(1)).select_from(table).limit(1)
        if self._driver is None:
            async with self.read_transaction() as connection:
                return (await connection.execute(query)).first() is not None
        # This runs many times a second. With the driver alone it costs a quarter of what it does with SQLAlchemy.
        try:
            rows = await self._driver.rows(f"SELECT 1 FROM {table.name} LIMIT 1")
        except DRIVER_ERRORS as error:
            self._problem = f"the database does not answer: {_reason(error)}"
            raise Unavailable(self._problem) from error
        self._problem = None
        return bool(rows)

    def share(self) -> "Database":
        """The same database for one more stage of this process."""
        self._user_count += 1
        return self

    async def close(self) -> None:
        """Close the connections once the last stage that shares them calls this."""
        self._user_count -= 1
        if self._user_count > 0:
            return
        if self._driver:
            await self._driver.close()
        await self._wait_for_transactions()
        for engine in self._engines:
            await engine.dispose()
        if self._connections:
            await self._connections.wait_until_ended()

    async def _wait_for_transactions(self) -> None:
        """Wait for transactions that end soon. A connection that returns to a closed pool would stay open."""
        deadline = time.monotonic() + CLOSE_WAIT_SECONDS
        # Let new tasks begin their transactions.
        await asyncio.sleep(POLL_SECONDS)
        pools = [cast(QueuePool, engine.pool) for engine in self._engines]
        while any(pool.checkedout() for pool in pools) and time.monotonic() < deadline:
            await asyncio.sleep(POLL_SECONDS)


class SqlStorage:
    """A class that reads and writes a database, and needs nothing else."""

    def __init__(self, database: Database) -> None:
        self._database = database


def _reason(error: Exception) -> str:
    """The driver's message, for people."""
    return _message(error).partition(": ")[2] or type(error).__name__


def _message(error: Exception) -> str:
    # The statement and its parameters hold payloads and secrets. The first line of the driver's message does not.
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    return f"{type(cause).__name__}: {str(cause).partition(chr(10))[0]}"


def _postgres_engine(
    url: URL, pool_size: int, pool_seconds: float, behind_pooler: bool, max_overflow: int = 0
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=pool_size,
        # A connection beyond the pool would be opened and closed for each use, which costs more than the query.
        max_overflow=max_overflow,
        pool_timeout=pool_seconds,
        pool_use_lifo=True,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={
            **connect_options(url.query, behind_pooler),
            "fallback_application_name": APPLICATION_NAME,
        },
    )
    if behind_pooler:  # The pooler's sessions cannot be set here: they begin with these settings.
        return engine

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Poolers refuse these as startup parameters.
        cursor = connection.cursor()
        for name, value in SESSION_SETTINGS.items():
            cursor.execute(f"SET {name} = '{value}'")
        cursor.close()
        connection.commit()

    return engine


def _sqlite_engine(url: URL, connections: SqliteConnections, begin_statement: str) -> AsyncEngine:
    engine = create_async_engine(url, hide_parameters=True, async_creator=connections.open)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        # Begin transactions explicitly: pysqlite begins them too late to take the write lock.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"busy_timeout={BUSY_TIMEOUT_SECONDS * 1000}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Any) -> None:
        # SQLite has one write lock, which replaces `FOR UPDATE`.
        connection.exec_driver_sql(begin_statement)

    return engine
