"""An outage of the database is logged once at its start and once at its end."""

import sqlite3
from pathlib import Path

from cryptography.fernet import Fernet

from fakes import FakeTelemetry, until
from streams.adapters.driver_queries import queries_of
from streams.adapters.replay_lookup import DriverTable, SqlReplayLookup
from streams.runtime.deployment import Deployment


async def test_the_look_up_of_replays_notices_the_end_of_an_outage(tmp_path: Path) -> None:
    path, telemetry = tmp_path / "scorm.db", FakeTelemetry()
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE other (id TEXT)")
    deployment = Deployment.from_environment(
        {
            "DATABASE_URL": f"sqlite:///{path}",
            "SCORM_WEBHOOKS_DATA_DIR": str(tmp_path),
            "SCORM_WEBHOOKS_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        }
    )
    table = DriverTable(queries_of(deployment.database_address))
    replays = SqlReplayLookup(table, deployment.outages(telemetry), retry_pause_seconds=0.01)
    assert await replays.newest_generation("some") is None
    assert [event for event, _ in telemetry.logged] == ["database_unreachable"]

    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE deliveries (id TEXT, generation INTEGER)")
    # No retry is due: the look-up notices the end by itself.
    await until(lambda: len(telemetry.logged) == 2)
    assert [event for event, _ in telemetry.logged] == ["database_unreachable", "database_reachable"]
