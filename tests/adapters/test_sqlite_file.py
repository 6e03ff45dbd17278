"""SQLite stops quietly during work, and only its owner may read the file."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from streams.adapters.sql.database import Database, database_url
from streams.adapters.sql.migrate import upgrade


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
