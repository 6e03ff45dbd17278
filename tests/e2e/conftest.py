"""A whole system for one test: broker, database, a customer's server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Broker, random_prefix
from e2e.learning_platform import Platform
from e2e.receiver import Receiver
from e2e.system import System
from real.postgres import Postgres


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def system(kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """For one test alone: topics and tables made, no stage started yet."""
    yield from prepared(kafka, postgres, topic_prefix, tmp_path)


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every stage started, for the stories of a module: each keeps to accounts and webhooks of its own."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("running")):
        system.start()
        yield system


def prepared(kafka: Broker, postgres: Postgres, topic_prefix: str, folder: Path, **settings: str) -> Iterator[System]:
    """A system with topics and tables and no stage; it is ended after its use."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
        **settings,
    }
    system = System(folder, env)
    try:
        system.prepare()
        yield system
    finally:
        system.close()


@pytest.fixture
def platform(system: System) -> Platform:
    """The producer of the system that the test has."""
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    return Platform(system.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")
