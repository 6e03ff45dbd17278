"""An outage of the database is logged once at its start and once at its end."""

import sqlite3
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from fakes import FakeTelemetry, until
from streams.adapters import replay_lookup as replay_lookup_module
from streams.runtime.deployment import Deployment


async def test_the_look_up_of_replays_notices_the_end_of_an_outage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay_lookup_module, "RETRY_PAUSE_SECONDS", 0.01)
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
    replays = deployment.replay_lookup(telemetry)
    assert await replays.newest_generation("some") is None
    assert [event for event, _ in telemetry.logged] == ["database_unreachable"]

    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE deliveries (id TEXT, generation INTEGER)")
    # No retry is due: the look-up notices the end by itself.
    await until(lambda: len(telemetry.logged) == 2)
    assert [event for event, _ in telemetry.logged] == ["database_unreachable", "database_reachable"]
