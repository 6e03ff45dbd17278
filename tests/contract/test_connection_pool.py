"""A database whose connections are all in use is a database that does not answer."""

import asyncio

import pytest
from sqlalchemy import text

from contract.stores import SqlStore
from streams.adapters.driver_queries import PostgresQueries
from streams.adapters.sql.engine import database as database_module
from streams.adapters.sql.engine import sqlite_file
from streams.adapters.sql.engine.database import Database, database_url
from streams.core.errors import Unavailable


async def test_without_a_free_connection_the_database_is_away(postgresql: str) -> None:
    database = Database(database_url(postgresql), pool_size=1, pool_seconds=0.1)
    try:
        async with database.transaction():
            with pytest.raises(Unavailable):
                await database.ping()
        await database.ping()
    finally:
        await database.close()


async def test_a_busy_moment_opens_no_further_connections(postgresql: str) -> None:
    database = Database(database_url(postgresql), pool_size=2)
    pids = set()
    try:
        for _ in range(20):
            async with database.read_transaction() as one, database.read_transaction() as other:
                for connection in (one, other):
                    pids.add(await connection.scalar(text("SELECT pg_backend_pid()")))
        assert len(pids) == 2
    finally:
        await database.close()


async def test_the_last_stage_of_a_process_closes_its_pool(postgresql: str) -> None:
    database = Database(database_url(postgresql))
    first, second = database.share(), database.share()
    await first.ping()
    await first.close()
    assert second.pool_use().idle == 1
    await second.close()
    assert database.pool_use().idle == 0


async def test_looks_at_once_share_one_connection(postgresql: str) -> None:
    queries = PostgresQueries(postgresql)
    found = await asyncio.gather(*(queries.rows("SELECT pg_backend_pid()") for _ in range(5)))
    await queries.close()
    assert len({rows[0] for rows in found}) == 1


@pytest.mark.parametrize(("option", "limit"), [("", "20000"), ("?tcp_user_timeout=7000", "7000")])
async def test_a_connection_that_died_without_a_sign_ends(postgresql: str, option: str, limit: str) -> None:
    database = Database(database_url(postgresql + option))
    try:
        async with database.read_transaction() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver
            given = driver.info.get_parameters()
        assert (given["tcp_user_timeout"], given["keepalives_idle"]) == (limit, "10")
    finally:
        await database.close()
    queries = PostgresQueries(postgresql + option)
    assert await queries.rows("SELECT 1") == [(1,)]


async def test_a_close_waits_for_a_transaction_in_progress(database: SqlStore) -> None:
    """A connection that is returned to a closed pool would stay open, and keep its thread."""
    opened, entered, go = Database(database.database.url), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with opened.transaction():
            entered.set()
            await go.wait()

    holding = asyncio.create_task(hold())
    await entered.wait()
    closing = asyncio.create_task(opened.close())
    done, _ = await asyncio.wait([closing], timeout=0.05)
    assert not done
    go.set()
    async with asyncio.timeout(2):
        await asyncio.gather(holding, closing)


async def test_a_close_waits_for_no_transaction_that_hangs(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "CLOSE_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(sqlite_file, "THREADS_TIMEOUT_SECONDS", 0.01)
    opened, entered = Database(database.database.url), asyncio.Event()

    async def hang() -> None:
        async with opened.transaction():
            entered.set()
            await asyncio.Event().wait()

    hanging = asyncio.create_task(hang())
    await entered.wait()
    async with asyncio.timeout(2):
        await opened.close()
    hanging.cancel()
