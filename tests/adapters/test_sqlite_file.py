"""SQLite stops quietly during work, loses no write, and only its owner may read the file."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from streams.adapters.sql.engine.database import Database, database_url
from streams.adapters.sql.engine.migrate import upgrade
from streams.adapters.sql.engine.sqlite_file import SqliteConnections

READ = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
print(*(row[0] for row in database.execute("SELECT name FROM accounts")))
database.close()
"""


async def stop_amid_work(path: Path, steps: int) -> None:
    """Start a transaction, cancel it after some iterations of the loop, and close."""
    database = Database(database_url(f"sqlite:///{path}"))

    async def work() -> None:
        while True:
            async with database.transaction() as connection:
                await connection.execute(text("UPDATE leases SET holder = 'me'"))
            async with database.read_transaction() as connection:
                await connection.execute(text("SELECT * FROM leases"))

    working = asyncio.create_task(work())
    for _ in range(steps):
        await asyncio.sleep(0.0005 if steps > 20 else 0)
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await database.close()


@pytest.mark.slow
def test_a_stop_amid_work_is_quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda broken: complaints.append(broken.exc_value))
    path = tmp_path / "db.sqlite"
    upgrade(database_url(f"sqlite:///{path}"))
    for steps in [*range(1, 20), *range(21, 50)] * 3:
        asyncio.run(stop_amid_work(path, steps))
    assert complaints == []


async def test_two_closes_of_a_connection_both_end(tmp_path: Path) -> None:
    connections = SqliteConnections(database_url(f"sqlite:///{tmp_path}/db.sqlite"))
    connection = await connections.open()
    may_continue = threading.Event()
    await connection.create_function("wait", 0, may_continue.wait)
    work = asyncio.create_task(connection.execute_fetchall("SELECT wait()"))
    await asyncio.sleep(0)
    closes = [asyncio.create_task(connection.close()) for _ in range(2)]
    await asyncio.sleep(0)
    may_continue.set()
    async with asyncio.timeout(5):
        await asyncio.gather(work, *closes)
    await connections.wait_until_ended()


def modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}


@pytest.mark.parametrize("first", ["migration", "connection"])
async def test_only_the_owner_may_read_the_database(tmp_path: Path, first: str) -> None:
    url = database_url(f"sqlite:///{tmp_path}/db.sqlite")
    if first == "migration":
        upgrade(url)
    database = Database(url)
    async with database.transaction() as connection:
        await connection.execute(text("CREATE TABLE fresh (id INTEGER)"))
        found = modes(tmp_path)
    await database.close()
    assert found == {"db.sqlite": 0o600, "db.sqlite-wal": 0o600, "db.sqlite-shm": 0o600}


async def test_a_second_connection_loses_no_write_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "db.sqlite"
    connections = SqliteConnections(database_url(f"sqlite:///{path}"))
    first = await connections.open()
    await first.execute("PRAGMA journal_mode = WAL")
    await first.execute("CREATE TABLE accounts (name)")
    await first.execute("INSERT INTO accounts VALUES ('before')")
    await first.commit()
    second = await connections.open()
    assert read_in_another_process(path) == ["before"]
    await first.execute("INSERT INTO accounts VALUES ('after')")
    await first.commit()
    assert read_in_another_process(path) == ["before", "after"]
    await first.close()
    await second.close()
    await connections.wait_until_ended()


def read_in_another_process(path: Path) -> list[str]:
    """The last process that closes removes the log of SQLite: this one must not take itself for the last."""
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.split()
