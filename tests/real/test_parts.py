"""The real servers do what the other tests rely on."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import parts
from conftest import Broker
from real.container import KafkaInContainer
from real.kafka import Kafka, responses
from real.postgres import Postgres


def make_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(10)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    refusals: list[KafkaError | None] = []
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, _: refusals.append(error))
    assert producer.flush(20) == 0
    assert refusals == [None]


def first_value(bootstrap: str, topic: str) -> bytes | None:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    try:
        record = consumer.poll(20)
        assert record is not None, "nothing came"
        assert record.error() is None
        return record.value()
    finally:
        consumer.close()


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_kafka_carries_a_record(kafka: Broker, topic_prefix: str) -> None:
    topic = f"{topic_prefix}letters"
    make_topic(kafka.bootstrap, topic)
    produce(kafka.bootstrap, topic, b"a")
    assert first_value(kafka.bootstrap, topic) == b"a"


def test_kafka_in_a_container_carries_a_record(kafka_in_container: KafkaInContainer) -> None:
    make_topic(kafka_in_container.bootstrap, "letters")
    produce(kafka_in_container.bootstrap, "letters", b"a")
    assert first_value(kafka_in_container.bootstrap, "letters") == b"a"


def test_kafka_makes_no_topic_by_itself(kafka: Broker, topic_prefix: str) -> None:
    topic = f"{topic_prefix}never-made"
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.timeout.ms": 1000})
    refusals: list[KafkaError | None] = []
    producer.produce(topic, b"a", on_delivery=lambda error, _: refusals.append(error))
    producer.flush(20)
    assert len(refusals) == 1
    assert refusals[0] is not None
    assert topic not in producer.list_topics(timeout=10).topics


def test_a_record_survives_kill_9_of_the_broker(own_kafka: Kafka) -> None:
    make_topic(own_kafka.bootstrap, "letters")
    produce(own_kafka.bootstrap, "letters", b"before")
    own_kafka.kill()
    with pytest.raises(KafkaException):
        AdminClient({"bootstrap.servers": own_kafka.bootstrap, "log_level": 0}).list_topics(timeout=1)
    own_kafka.start()
    assert first_value(own_kafka.bootstrap, "letters") == b"before"


def test_each_postgres_url_is_a_new_database(postgres: Postgres) -> None:
    first, second = postgres.url(), postgres.url()
    with psycopg.connect(first) as connection:
        connection.execute("CREATE TABLE letter (value text)")
    with psycopg.connect(second) as connection:
        assert connection.execute("SELECT to_regclass('letter')").fetchone() == (None,)


def test_a_row_survives_kill_9_of_the_server(own_postgres: Postgres) -> None:
    url = own_postgres.url()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE letter AS SELECT 'a' AS value")
    own_postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    own_postgres.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT value FROM letter").fetchone() == ("a",)


def said_by_a_killed_session(started: str, *arguments: str | Path) -> str:
    """Run `started` in another session, and kill that session at once."""
    script = (
        "import os, signal, sys; from pathlib import Path;"
        "from real.container import KafkaInContainer; from real.process import Process;"
        f"print({started}, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", script, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def until_not(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_does_not_outlive_a_killed_session(tmp_path: Path) -> None:
    pid = int(said_by_a_killed_session("Process(['sleep', '600'], Path(sys.argv[1])).pid", tmp_path / "log"))
    until_not(lambda: alive(pid))


@pytest.mark.real
@pytest.mark.skipif(not parts.docker(), reason=parts.NO_ENGINE)
def test_a_container_does_not_outlive_a_killed_session() -> None:
    bootstrap = said_by_a_killed_session("KafkaInContainer().bootstrap")
    assert bootstrap
    until_not(lambda: responses(bootstrap))
