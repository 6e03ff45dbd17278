"""The real parts do what the other tests rely on."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from conftest import Broker
from real.kafka import Kafka
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


def test_a_server_does_not_outlive_a_killed_session(tmp_path: Path) -> None:
    start = (
        "import os, signal, sys, pathlib; from real.process import Process;"
        "print(Process(['sleep', '600'], pathlib.Path(sys.argv[1])).pid, flush=True);"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(tests)}
    ended = subprocess.run(
        [sys.executable, "-c", start, str(tmp_path / "log")],
        env=environment,
        capture_output=True,
        check=False,
    )
    pid = int(ended.stdout)
    deadline = time.monotonic() + 5
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)
