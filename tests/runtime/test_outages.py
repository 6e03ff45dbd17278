"""The parts of a stage share its outages: each is logged once at its start and once at its end."""

import sqlite3
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from fakes import FakeTelemetry, until
from streams.adapters import replay_lookup as replay_lookup_module
from streams.runtime.deployment import Deployment


async def test_what_deliver_reads_shares_the_outage_of_the_database(
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
    replays, learners = deployment.replay_lookup(telemetry), deployment.erased_learners(telemetry)
    await learners.refresh()
    assert await replays.newest("some") is None
    assert [event for event, _ in telemetry.logged] == ["database_unreachable"]

    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE deliveries (id TEXT, generation INTEGER)")
        database.execute("CREATE TABLE erasures (account_id TEXT, learner_hash TEXT, erased_at TEXT)")
    await learners.refresh()
    # No retry is due: the look-up notices the end by itself.
    await until(lambda: len(telemetry.logged) == 2)
    assert [event for event, _ in telemetry.logged] == ["database_unreachable", "database_reachable"]
