"""Outages of the broker and the database, restarts and slow requests lose nothing."""

import signal
from pathlib import Path
from typing import Any

import pytest

from conftest import Broker
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.kafka import Kafka
from real.postgres import Postgres
from streams.core.deliveries.time_limits import TimeLimits

pytestmark = pytest.mark.e2e
# With an attempt of the default timeout, and a little more.
STOP_SECONDS = TimeLimits(10).stop_seconds + 5

READERS = ("fan-out", "deliver", "record")


def publish(platform: Platform, account: str, numbers: range) -> set[str]:
    for number in numbers:
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"sess_{number}")
    platform.flush()
    return {f"evt_{number}" for number in numbers}


def registered(system: System, url: str, *more: str) -> tuple[str, str]:
    """Create an account with a webhook; return both ids."""
    account = str(system.run("accounts", "create", "Acme", "--json")["id"])
    webhook: dict[str, Any] = system.run("webhooks", "create", "--account", account, "--url", url, *more, "--json")
    return account, str(webhook["id"])


def logged_count(system: System, stage: str, message: str) -> int:
    return sum(message in line["event"] for line in system.log_events(stage))


def test_a_killed_broker_loses_nothing_and_is_logged_once(
    own_kafka: Kafka, postgres: Postgres, receiver: Receiver, tmp_path: Path
) -> None:
    system = System(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap, "DATABASE_URL": postgres.url()})
    system.prepare()
    try:
        system.start()
        account, _ = registered(system, receiver.url("/crm"))
        platform = Platform(own_kafka.bootstrap, "session-events")
        wanted = publish(platform, account, range(50))
        receiver.wait_for("/crm", wanted)

        own_kafka.kill()
        until(lambda: not any(map(system.is_ready, READERS)), 30, "no reader is ready")
        own_kafka.start()
        wanted |= publish(platform, account, range(50, 100))

        receiver.wait_for("/crm", wanted, 90)
        until(lambda: system.states() == {"delivered": 100}, 60, "all recorded")
        until(lambda: all(system.is_ready(stage) for stage in STAGES), 60, "every stage ready again")
        until(lambda: logged_count(system, "deliver", "broker_reachable") == 1, 10, "the end of the outage")
        assert logged_count(system, "deliver", "broker_unreachable") == 1
        for stage in READERS:
            # Without the limit on repeated lines there would be hundreds.
            assert sum("logger" in line for line in system.log_events(stage)) < 100, (
                "too many lines of the Kafka clients"
            )
    finally:
        system.close()


def test_stages_stop_in_time_during_a_broker_outage(
    own_kafka: Kafka, postgres: Postgres, receiver: Receiver, tmp_path: Path
) -> None:
    system = System(tmp_path, {"KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap, "DATABASE_URL": postgres.url()})
    system.prepare()
    try:
        system.start()
        account, _ = registered(system, receiver.url("/crm"))
        wanted = publish(Platform(own_kafka.bootstrap, "session-events"), account, range(100))
        until(lambda: len(receiver.ids("/crm")) > 50, message="half of the events")
        own_kafka.kill()

        for stage in STAGES:
            system.send(stage, signal.SIGTERM)
        until(lambda: all(system.exit_code(stage) is not None for stage in STAGES), STOP_SECONDS, "every end")

        own_kafka.start()
        system.start()
        receiver.wait_for("/crm", wanted, 90)
        until(lambda: system.states() == {"delivered": 100}, 60, "all recorded")
    finally:
        system.close()


def test_events_are_delivered_during_a_database_outage(
    kafka: Broker, own_postgres: Postgres, receiver: Receiver, topic_prefix: str, tmp_path: Path
) -> None:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "DATABASE_URL": own_postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
    }
    system = System(tmp_path, env)
    system.prepare()
    try:
        system.start()
        account, _ = registered(system, receiver.url("/crm"))
        own_postgres.stop()
        wanted = publish(Platform(kafka.bootstrap, f"{topic_prefix}session-events"), account, range(100))
        receiver.wait_for("/crm", wanted)
        until(lambda: not system.is_ready("record"), 30, "record is not ready")
        own_postgres.start()
        until(lambda: system.states() == {"delivered": 100}, 60, "all recorded")
        until(lambda: all(system.is_ready(stage) for stage in STAGES), 30, "every stage ready again")
        assert logged_count(system, "record", "database_unreachable") == 1
    finally:
        system.close()


def test_sigterm_of_each_stage_loses_and_repeats_nothing(
    system: System, platform: Platform, receiver: Receiver
) -> None:
    system.start()
    account, _ = registered(system, receiver.url("/crm"))
    wanted: set[str] = set()
    for round_, stage in enumerate(STAGES):
        wanted |= publish(platform, account, range(round_ * 100, (round_ + 1) * 100))
        assert system.stop(stage) == 0, system.log(stage)[-2000:]
        system.start([stage])
    receiver.wait_for("/crm", wanted)
    until(lambda: system.states() == {"delivered": len(wanted)}, 60, "every delivery recorded")
    assert len(receiver.ids("/crm")) == len(wanted)
