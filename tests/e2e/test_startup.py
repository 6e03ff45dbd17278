"""A stage that starts before its dependencies is live, says what is missing, and continues by itself."""

import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Broker
from e2e.system import System, until
from real.kafka import Kafka
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

EVERY_STAGE = ("fan-out", "deliver", "record", "publish", "maintain", "meter", "notify", "api")
NOWHERE = "127.0.0.1:1"
# Much less than a liveness probe allows; imports take a second.
SOON_SECONDS = 10.0


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[System]:
    """Stages without Kafka and database."""
    database = f"postgresql://nobody@{NOWHERE}/nothing"
    env = {"KAFKA_BOOTSTRAP_SERVERS": NOWHERE, "DATABASE_URL": database, "SCORM_WEBHOOKS_API_PORT": "0"}
    system = System(tmp_path, env)
    yield system
    system.close()


def is_live(system: System, stage: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{system._ports[stage]}/healthz", timeout=2) as response:
            return bool(response.status == 200)
    except OSError:
        return False


@pytest.mark.parametrize("stage", EVERY_STAGE)
def test_a_stage_without_kafka_is_live_and_says_why(alone: System, stage: str) -> None:
    missing = "DATABASE_URL" if stage == "notify" else f"KAFKA_BOOTSTRAP_SERVERS is {NOWHERE}"
    alone.launch(stage)
    until(lambda: is_live(alone, stage), SOON_SECONDS, "live")
    until(lambda: missing in alone.problem(stage), SOON_SECONDS, lambda: alone.problem(stage))
    alone.send(stage, signal.SIGTERM)
    until(lambda: alone.exit_code(stage) is not None, SOON_SECONDS, "the end at once")
    assert alone.exit_code(stage) == 0
    events = [line["event"] for line in alone.log_events(stage) if "logger" not in line]
    outage = "database_unreachable" if stage == "notify" else "broker_unreachable"
    assert (set(events), events[-1]) == ({"started", "not_ready", outage, "stopped"}, "stopped")
    assert events.count(outage) == 1
    assert "Traceback" not in alone.log(stage)


def test_a_wrong_setting_is_reported_before_the_wait(alone: System) -> None:
    alone.launch("deliver", SCORM_WEBHOOKS_ENCRYPTION_KEYS="short")
    until(lambda: alone.exit_code("deliver") is not None, SOON_SECONDS, "the end")
    assert alone.exit_code("deliver") == 2
    assert alone.log_events("deliver")[-1]["why"].startswith("SCORM_WEBHOOKS_ENCRYPTION_KEYS")


def test_a_stage_starts_by_itself_once_kafka_answers(own_kafka: Kafka, alone: System) -> None:
    alone.env["KAFKA_BOOTSTRAP_SERVERS"] = own_kafka.bootstrap
    alone.run("topics", "apply")
    own_kafka.kill()
    alone.launch("fan-out")
    until(lambda: "Kafka does not answer" in alone.problem("fan-out"), SOON_SECONDS)
    own_kafka.start()
    # Without `publish` there is no sentinel, so it still waits.
    until(lambda: "the webhooks are not all read yet" in alone.problem("fan-out"), 30, lambda: alone.log("fan-out"))


def test_stages_wait_for_missing_topics_and_tables(
    kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path
) -> None:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
    }
    system = System(tmp_path, env)
    try:
        system.launch("record")
        until(lambda: f"{topic_prefix}deliveries.held" in system.problem("record"), SOON_SECONDS)
        assert "run `scorm-webhooks topics apply`" in system.problem("record")
        system.run("topics", "apply")
        until(lambda: "run `scorm-webhooks db upgrade`" in system.problem("record"), SOON_SECONDS)
        system.run("db", "upgrade")
        until(lambda: system.is_ready("record"), 30, lambda: system.log("record"))
    finally:
        system.close()
