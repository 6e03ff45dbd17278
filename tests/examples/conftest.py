"""A running system, and receivers of `examples/` that get its real deliveries."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform
from e2e.receiver import Receiver
from e2e.system import STAGES, System
from examples.customer import Customer
from examples.mailbox import Mailbox
from examples.program import Program
from real.postgres import Postgres
from real.process import free_ports

Connect = Callable[..., Customer]


@pytest.fixture(scope="package")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every stage, for all tests of receivers; each test has its own account."""
    folder = tmp_path_factory.mktemp("running")
    for system in prepared(kafka, postgres, random_prefix(), folder, SCORM_WEBHOOKS_RETRY_SCHEDULE="1s,2s,3s,5s,8s"):
        system.env["SCORM_WEBHOOKS_API_PORT"] = str(free_ports(1)[0])
        system.start((*STAGES, "maintain", "meter", "api"))
        yield system


@pytest.fixture
def endpoint() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


@pytest.fixture
def connect(running: System, endpoint: Receiver, tmp_path: Path) -> Iterator[Connect]:
    """Register a webhook for a receiver, and start that receiver."""
    prefix = running.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    platform = Platform(running.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")
    with ExitStack() as programs:

        def start(name: str, *event_types: str, **env: str) -> Customer:
            program = Program(name, tmp_path, env)
            programs.callback(program.stop)
            return Customer(running, platform, endpoint, program, event_types)

        yield start


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    found = Mailbox()
    found.start()
    yield found
    found.stop()
