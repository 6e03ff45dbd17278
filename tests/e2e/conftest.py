"""Fixtures for a whole system: broker, database, stages and an endpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Broker, random_prefix
from e2e.learning_platform import Platform
from e2e.receiver import Receiver
from e2e.system import STAGES, System
from real.postgres import ROLE, Postgres, of_role


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def system(kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """A system for one test, with topics and tables and without stages."""
    yield from prepared(kafka, postgres, topic_prefix, tmp_path)


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system with the stages that an event passes and `maintain`, for a module; each test uses its own accounts."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("running")):
        system.start((*STAGES, "maintain"))
        yield system


def prepared(kafka: Broker, postgres: Postgres, topic_prefix: str, folder: Path, **settings: str) -> Iterator[System]:
    """A system with topics and tables and without stages; closed after use."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
        **settings,
    }
    system = System(folder, env)
    try:
        system.prepare()
        # What runs has fewer rights than what migrates.
        system.run("db", "upgrade", "--grant-to", ROLE)
        system.env["DATABASE_URL"] = of_role(system.env["DATABASE_URL"])
        yield system
    finally:
        system.close()


@pytest.fixture
def platform(system: System) -> Platform:
    """A producer for the test's system."""
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    return Platform(system.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")
