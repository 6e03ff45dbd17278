"""docs/single-machine.md: `up` beside a Kafka and a PostgreSQL that keep their data."""

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

import parts
from conftest import left_out
from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import until
from e2e.up import await_ready, running_up
from real.kafka import Kafka
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

SERVER_PROPERTIES = Path(__file__).parents[2] / "deploy" / "systemd" / "server.properties"
EVENTS = 300


class InstalledKafka(Kafka):
    """A broker with the settings of deploy/systemd; its ports and folder are the test's."""

    def _properties(self, port: int, controller: int) -> str:
        text = SERVER_PROPERTIES.read_text().replace("127.0.0.1:9092", f"127.0.0.1:{port}")
        text = text.replace("127.0.0.1:9093", f"127.0.0.1:{controller}")
        return text.replace("/var/lib/kafka", str(self._folder))


@pytest.fixture
def kafka_of_the_machine() -> Iterator[Kafka]:
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
    server = InstalledKafka()
    try:
        yield server
    finally:
        server.remove()


def test_a_machine_that_is_killed_loses_nothing(
    kafka_of_the_machine: Kafka, postgres: Postgres, receiver: Receiver, tmp_path: Path
) -> None:
    kafka = kafka_of_the_machine
    env = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap, "DATABASE_URL": postgres.url()}
    receiver.responses["/crm"] = fail_some_first_attempts
    platform = Platform(kafka.bootstrap, "session-events")
    with running_up(tmp_path, env, SIGKILL) as (system, _):
        system.run("topics", "apply")
        await_ready(system)
        account = system.account()
        webhook = system.webhook(account, receiver.url("/crm"))["id"]
        publish(platform, account, range(EVENTS // 2))
        until(lambda: receiver.has_got(20), message="deliveries under way")
    publish(platform, account, range(EVENTS // 2, EVENTS))
    kafka.kill()
    kafka.start()
    with running_up(tmp_path, env) as (system, _):
        receiver.wait_for("/crm", set(platform.acknowledged))
        until(lambda: system.states(webhook) == {"delivered": EVENTS}, 60, lambda: str(system.states(webhook)))
        system.close()
    assert len(platform.acknowledged) == EVENTS


def publish(platform: Platform, account: str, numbers: range) -> None:
    for number in numbers:
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"sess_{number}")
    platform.flush()


def fail_some_first_attempts(request: Received) -> int:
    """So that retries wait in their tiers when the machine is killed."""
    return 500 if request.number % 5 == 2 and header(request, "webhook-attempt") == "1" else 200
