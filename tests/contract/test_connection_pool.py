"""A database whose connections are all in use is a database that does not answer."""

import asyncio

import pytest
from sqlalchemy import text

from streams.adapters.driver_queries import PostgresQueries
from streams.adapters.sql.database import Database, database_url
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
