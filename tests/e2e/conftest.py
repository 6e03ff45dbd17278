"""A whole system for one test: broker, database, a customer's server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Broker
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
    """Topics and tables made, no stage started yet."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
    }
    system = System(tmp_path, env)
    system.prepare()
    yield system
    system.close()


@pytest.fixture
def platform(kafka: Broker, topic_prefix: str) -> Platform:
    return Platform(kafka.bootstrap, f"{topic_prefix}session-events")
