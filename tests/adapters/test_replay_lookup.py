"""A database outage delays no delivery, and the look-up tries again after a while."""

import asyncio
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from fakes import FakeTelemetry
from streams.adapters.driver_queries import queries_of
from streams.adapters.replay_lookup import DriverTable, SqlReplayLookup, replay_lookup
from streams.outage import Outages

SECONDS = 10.0


def quick_lookup(path: Path, telemetry: FakeTelemetry) -> SqlReplayLookup:
    table = DriverTable(queries_of(f"sqlite:///{path}", behind_pooler=False))
    return SqlReplayLookup(table, Outages(telemetry), retry_pause_seconds=0.01)


async def test_a_file_that_comes_later_is_read(tmp_path: Path) -> None:
    telemetry, path = FakeTelemetry(), tmp_path / "later.db"
    lookup = quick_lookup(path, telemetry)
    assert await lookup.newest_generation("some") is None
    assert telemetry.logged_count("database_unreachable") == 1
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE deliveries (id TEXT, generation INTEGER)")
        database.execute("INSERT INTO deliveries VALUES ('some', 3)")
    async with asyncio.timeout(SECONDS):
        while await lookup.newest_generation("some") != 3:
            await asyncio.sleep(0.01)


async def test_a_database_that_fails_rests_and_is_asked_again(tmp_path: Path) -> None:
    telemetry, path = FakeTelemetry(), tmp_path / "broken #1.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (id TEXT)")
    asked = quick_lookup(path, telemetry)
    assert [await asked.newest_generation("some"), await asked.newest_generation("some")] == [None, None]
    assert telemetry.logged_count("database_unreachable") == 1
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE deliveries (id TEXT, generation INTEGER)")
        database.execute("INSERT INTO deliveries VALUES ('some', 3)")
    async with asyncio.timeout(SECONDS):
        while (found := await asked.newest_generation("some")) is None:
            await asyncio.sleep(0.01)
    assert found == 3
    assert telemetry.logged_count("database_reachable") == 1


async def test_a_server_that_is_away_is_not_asked_while_it_rests() -> None:
    telemetry = FakeTelemetry()
    asked = replay_lookup("postgresql+psycopg://nobody:secret@127.0.0.1:1/none", Outages(telemetry))
    assert [await asked.newest_generation("some"), await asked.newest_generation("some")] == [None, None]
    assert telemetry.logged_count("database_unreachable") == 1
    assert "secret" not in str(telemetry.logged)


@pytest.mark.real
async def test_a_connection_closed_by_the_server_is_reopened(postgresql: str) -> None:
    telemetry = FakeTelemetry()
    asked = replay_lookup(postgresql, Outages(telemetry))
    async with await psycopg.AsyncConnection.connect(postgresql, autocommit=True) as other:
        await other.execute("CREATE TABLE deliveries (id text, generation int)")
        await other.execute("INSERT INTO deliveries VALUES ('some', 3)")
        assert await asked.newest_generation("some") == 3
        await other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s",
            [other.info.backend_pid],
        )
        assert await asked.newest_generation("some") == 3
    assert telemetry.logged == []


async def test_an_unexpected_error_reaches_every_caller() -> None:
    class Broken:
        async def find(self, ids: Sequence[str]) -> Mapping[str, int]:
            raise ZeroDivisionError

    asked = SqlReplayLookup(Broken(), Outages(FakeTelemetry()))
    for _ in range(2):
        responses = await asyncio.wait_for(
            asyncio.gather(asked.newest_generation("one"), asked.newest_generation("two"), return_exceptions=True), 5
        )
        assert [type(response) for response in responses] == [ZeroDivisionError, ZeroDivisionError]
