"""The outbox of `examples/producers` loses no event, whenever its process is killed."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from producers import outbox

from conftest import Broker
from e2e.system import until
from real.process import Process
from real.secured_kafka import SecuredKafka, by_password
from streams.adapters.avro.codec import AvroCodec
from streams.core.errors import Unavailable
from streams.core.events.event import Event
from streams.testing import FakeProducer

pytestmark = pytest.mark.slow

EVENTS = 400


def event(number: int) -> dict[str, object]:
    return {
        "id": f"evt_{number}",
        "type": "package.updated",
        "accountId": "acc_1",
        "createdAt": "2026-04-10T14:32:00Z",
        "data": {"packageId": f"pkg_{number % 3}", "version": str(number)},
    }


def test_an_event_that_is_refused_stops_no_other(tmp_path: Path) -> None:
    database = outbox.open_database(str(tmp_path / "app.db"))
    with database:
        for each in ({**event(1), "type": "unknown"}, event(2)):
            outbox.store(database, each)
    producer = FakeProducer()
    outbox.publish_stored(database, producer)  # type: ignore[arg-type]
    assert [one.id for one in producer.published] == ["evt_2"]
    [(error,)] = database.execute("SELECT error FROM outbox").fetchall()
    assert "type" in error


def test_an_event_stays_until_kafka_has_it(tmp_path: Path) -> None:
    database = outbox.open_database(str(tmp_path / "app.db"))
    with database:
        outbox.store(database, event(1))
    producer = FakeProducer(failure=Unavailable("Kafka does not answer"))
    with pytest.raises(Unavailable):
        outbox.publish_stored(database, producer)  # type: ignore[arg-type]
    producer.failure = None
    assert outbox.publish_stored(database, producer) == 1  # type: ignore[arg-type]
    assert outbox.publish_stored(database, producer) == 0  # type: ignore[arg-type]


def test_a_refused_event_is_a_line_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = outbox.open_database(str(tmp_path / "app.db"))
    with database:
        for each in (event(1), {**event(2), "type": "unknown"}):
            outbox.store(database, each)
    outbox.publish_stored(database, FakeProducer())  # type: ignore[arg-type]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("refused: event evt_2 in row 2: type: ")


@pytest.mark.real
@pytest.mark.parametrize("mechanism", ["none", "SCRAM-SHA-512"])
def test_as_copied_it_publishes_metadata(mechanism: str, secured_kafka: SecuredKafka, tmp_path: Path) -> None:
    topic, path = f"outbox-{mechanism}", str(tmp_path / "app.db")
    admin = AdminClient({"bootstrap.servers": secured_kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    database = outbox.open_database(path)
    data = {"packageId": "pkg_1", "version": "2", "metadata": {"department": "sales"}}
    with database:
        outbox.store(database, {**event(1), "data": data})
    secured = mechanism != "none"
    servers = secured_kafka.password_listener if secured else secured_kafka.bootstrap
    variables = by_password(secured_kafka, mechanism) if secured else {}
    log = tmp_path / "outbox.log"
    process = Process([sys.executable, outbox.__file__, path, servers, topic], log, env={**os.environ, **variables})
    try:
        until(lambda: not database.execute("SELECT 1 FROM outbox WHERE error IS NULL").fetchall(), 30, log.read_text)
    finally:
        process.end(signal.SIGTERM)
    assert (log.read_text(), ids_on(secured_kafka.bootstrap, topic)) == ("", {"evt_1": 1})


@pytest.mark.real
def test_a_kill_at_any_moment_loses_no_event(kafka: Broker, topic_prefix: str, tmp_path: Path) -> None:
    topic, path = f"{topic_prefix}session-events", str(tmp_path / "app.db")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    admin.create_topics([NewTopic(topic, 1)])[topic].result(30)
    database = outbox.open_database(path)
    with database:
        for number in range(EVENTS):
            outbox.store(database, event(number))

    def left() -> int:
        return int(database.execute("SELECT count(*) FROM outbox").fetchone()[0])

    kills = 0
    while left():
        before = left()
        process = subprocess.Popen([sys.executable, outbox.__file__, path, kafka.bootstrap, topic])
        # Killed somewhere in the middle of its work, at another place each time.
        goal = max(0, before - random.randint(1, EVENTS // 4))
        until(partial(is_at_most, left, goal), 60, "events are published")
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    ids = ids_on(kafka.bootstrap, topic)
    assert ids.keys() == {f"evt_{number}" for number in range(EVENTS)}
    assert ids.total() <= EVENTS + kills * outbox.ROWS_AT_ONCE


def is_at_most(count: Callable[[], int], goal: int) -> bool:
    return count() <= goal


def ids_on(bootstrap: str, topic: str) -> Counter[str]:
    """How often each event is on the topic."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": topic, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    codec, found = AvroCodec(), Counter[str]()
    while message := consumer.poll(10 if not found else 2):
        value = codec.decode(message.value() or b"")
        assert isinstance(value, Event)
        found[value.id] += 1
    consumer.close()
    return found
