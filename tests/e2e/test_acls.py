"""Each stage works with its own user and the rules of `topics acls`, and may do nothing else."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

import parts
from conftest import left_out
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver, header
from e2e.system import System, until
from real.postgres import Postgres
from real.process import free_ports
from real.secured_kafka import PASSWORD, GuardedKafka
from streams.acls import ACCESS, TOPICS_USER
from streams.topics import RETRY_PREFIX, SESSION_EVENTS

pytestmark = [pytest.mark.e2e, pytest.mark.real]

PREFIX = "guarded."


def user(stage: str) -> str:
    return f"scorm-webhooks-{stage}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[GuardedKafka]:
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
    server = GuardedKafka([user(name) for name in (*ACCESS, TOPICS_USER)])
    try:
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def system(guarded: GuardedKafka, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every stage under its own user. Commands come as the broker's own user does."""
    [port] = free_ports(1)
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": guarded.bootstrap,
        "DATABASE_URL": postgres.url(),
        "SCORM_WEBHOOKS_TOPIC_PREFIX": PREFIX,
        "SCORM_WEBHOOKS_API_PORT": str(port),
    }
    system = System(tmp_path_factory.mktemp("guarded"), env)
    system.prepare()
    make_rules(guarded, system.run("topics", "acls", "--json"))
    try:
        for stage in ACCESS:
            system.launch(stage, **credentials(guarded, stage))
        for stage in ACCESS:
            until(partial(system.is_ready, stage), 60, f"{stage} ready: {system.log(stage)[-2000:]}")
        yield system
    finally:
        system.close()


def credentials(kafka: GuardedKafka, stage: str) -> dict[str, str]:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.password_listener,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CONFIG_SASL_MECHANISM": "PLAIN",
        "KAFKA_CONFIG_SASL_USERNAME": user(stage),
        "KAFKA_CONFIG_SASL_PASSWORD": PASSWORD,
        "KAFKA_CONFIG_SSL_CA_LOCATION": str(kafka.authority),
    }


def make_rules(kafka: GuardedKafka, wanted: list[dict[str, Any]]) -> None:
    rules = [
        AclBinding(
            ResourceType[rule["resource"].upper()],
            rule["name"],
            ResourcePatternType.PREFIXED if rule["isPrefix"] else ResourcePatternType.LITERAL,
            rule["principal"],
            "*",
            AclOperation[re.sub("(?<=[a-z])(?=[A-Z])", "_", rule["operation"]).upper()],
            AclPermissionType.ALLOW,
        )
        for rule in wanted
    ]
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    for done in admin.create_acls(rules).values():
        done.result(30)


def test_the_path_of_an_event_needs_no_other_rule(system: System, guarded: GuardedKafka, receiver: Receiver) -> None:
    platform = Platform(guarded.bootstrap, f"{PREFIX}session-events")
    account = system.account()
    receiver.responses["/crm"] = lambda request: 500 if int(header(request, "webhook-attempt")) < 2 else 200
    receiver.responses["/gone"] = lambda request: 500
    for path in ("/crm", "/gone", "/paused"):
        webhook_id = str(system.webhook(account, receiver.url(path))["id"])
    system.run("webhooks", "pause", webhook_id)
    platform.publish("evt_1", launched("evt_1", account), key="evt_1")
    platform.flush()
    until(lambda: system.states() == {"delivered": 1, "dead": 1, "held": 1}, 60, lambda: f"all but: {system.states()}")
    # `publish` releases the held one.
    system.run("webhooks", "enable", webhook_id)
    until(lambda: system.states() == {"delivered": 2, "dead": 1}, 60, lambda: f"all but: {system.states()}")
    system.run("webhooks", "test", webhook_id)
    until(lambda: len(receiver.at("/paused")) == 2, 60, "a test event")
    groups = 'group="deliver",topic="deliveries"'
    until(lambda: groups in system.metrics("maintain"), 60, "the lag of every group")
    for stage in ACCESS:
        assert system.is_ready(stage), stage
        unwritable = [
            line for line in system.log_events(stage) if line["event"] in ("topic_unwritable", "commit_failed")
        ]
        assert unwritable == [], stage


def test_fan_out_by_librdkafka_needs_no_other_rule(system: System, guarded: GuardedKafka, receiver: Receiver) -> None:
    assert system.stop("fan-out") == 0
    system.launch("fan-out", SCORM_WEBHOOKS_FAN_OUT_CONSUMER="librdkafka", **credentials(guarded, "fan-out"))
    until(partial(system.is_ready, "fan-out"), 60, lambda: f"fan-out ready: {system.log('fan-out')[-2000:]}")
    account = system.account()
    system.webhook(account, receiver.url("/librdkafka"))
    platform = Platform(guarded.bootstrap, f"{PREFIX}session-events")
    platform.publish("evt_2", launched("evt_2", account), key="evt_2")
    platform.flush()
    receiver.wait_for("/librdkafka", {"evt_2"})
    assert [line for line in system.log_events("fan-out") if line["event"] == "commit_failed"] == []


@pytest.mark.parametrize("stage", ACCESS)
def test_a_stage_writes_to_no_other_topic(system: System, guarded: GuardedKafka, stage: str) -> None:
    topics = AdminClient({"bootstrap.servers": guarded.bootstrap}).list_topics(timeout=30).topics
    ours = [name.removeprefix(PREFIX) for name in topics if name.startswith(PREFIX)]
    may = {name for name in ours if name in ACCESS[stage].writes}
    may |= {name for name in ours if name.startswith(RETRY_PREFIX) and RETRY_PREFIX in ACCESS[stage].writes}
    assert written_by(guarded, stage, sorted(set(ours) - may)) == []


def written_by(kafka: GuardedKafka, stage: str, topics: list[str]) -> list[str]:
    """The topics of these that take a record of this stage's user."""
    config = {
        "bootstrap.servers": kafka.password_listener,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": user(stage),
        "sasl.password": PASSWORD,
        "ssl.ca.location": str(kafka.authority),
        "message.timeout.ms": "10000",
        "log_level": 2,
    }
    taken, refused = list[str](), list[str]()

    def settle(error: KafkaError | None, message: Message) -> None:
        (refused if error else taken).append(str(message.topic()))

    producer = Producer(config)
    for topic in topics:
        producer.produce(PREFIX + topic, b"forged", on_delivery=settle)
    producer.flush(30)
    assert len(taken) + len(refused) == len(topics)
    return taken


def test_a_person_can_copy_the_commands(system: System) -> None:
    lines = system.run("topics", "acls", "--user", "hooks.{stage}").splitlines()
    assert (
        'kafka-acls.sh --bootstrap-server "$KAFKA_BOOTSTRAP_SERVERS" --add --allow-principal User:hooks.deliver '
        "--operation Write --topic guarded.deliveries.retry. --resource-pattern-type prefixed"
    ) in lines
    assert len(lines) == len(system.run("topics", "acls", "--json"))


def test_topics_are_made_with_no_other_rule(system: System, guarded: GuardedKafka) -> None:
    change_retention(guarded, f"{PREFIX}{SESSION_EVENTS}")
    settings = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "7s,9s", "SCORM_WEBHOOKS_DELIVERY_PARTITIONS": "30"}
    ours = System(system.folder, {**system.env, **credentials(guarded, TOPICS_USER), **settings})
    done = str(ours.run("topics", "apply", "--remove-retired"))
    assert {line.split(":")[0] for line in done.splitlines()[:-1]} == {"create", "grow", "configure", "remove"}
    assert "0 of" in str(ours.run("topics", "apply"))


def change_retention(kafka: GuardedKafka, topic: str) -> None:
    entry = ConfigEntry("retention.ms", "86400000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    [done] = admin.incremental_alter_configs([resource]).values()
    done.result(30)
