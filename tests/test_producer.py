"""The producer library: `publish` never blocks, and its future says where the event is."""

import asyncio
import inspect
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from contract.refusing_broker import INIT_PRODUCER_ID_REQUEST, RefusingBroker
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.kafka.connection.config import subscriptions_config
from streams.core.errors import Invalid, Misconfigured, Unavailable
from streams.core.events.event import Event, partition_key
from streams.ports.kafka import RecordValue
from streams.producer import Ack, EventProducer
from streams.testing import FakeProducer
from streams.topics import SESSION_EVENTS, Topic

pytestmark = pytest.mark.slow

SESSION = {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"}
FIELDS = {
    "type": "session.launched",
    "accountId": "acc_1",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": SESSION,
}
LAUNCHED = Event("evt_1", "session.launched", "acc_1", datetime(2026, 4, 10, 14, 32, tzinfo=UTC), SESSION)
NOWHERE = "127.0.0.1:1"
DOCUMENT = Path(__file__).parents[1] / "docs" / "publishing.md"


@pytest.fixture(scope="module")
def brokers() -> Iterator[str]:
    """The address of librdkafka's mock broker."""
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    yield ",".join(f"{node.host}:{node.port}" for node in broker.list_topics(timeout=10).brokers.values())
    broker.flush(0)


@pytest.fixture(scope="module")
def producer(brokers: str) -> Iterator[EventProducer]:
    with EventProducer(brokers) as producer:
        yield producer


def test_an_acknowledgement_names_partition_and_offset(producer: EventProducer, brokers: str) -> None:
    ack = producer.publish(LAUNCHED).result(timeout=10)
    record = record_at(brokers, ack)
    value = record.value()
    assert record.key() == b"sess_1"
    assert isinstance(value, bytes)
    assert AvroCodec().decode(value) == LAUNCHED


def test_an_event_goes_on_with_the_callers_trace(producer: EventProducer, brokers: str) -> None:
    span = NonRecordingSpan(SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1)))
    own = replace(LAUNCHED, trace_parent=f"00-{1:032x}-{2:016x}-01")
    with use_span(span):
        traced = [producer.publish(event).result(timeout=10) for event in (LAUNCHED, own)]
    found = [AvroCodec().decode(record_at(brokers, ack).value() or b"") for ack in traced]
    assert found == [replace(LAUNCHED, trace_parent=f"00-{0xABC:032x}-{0xDEF:016x}-01"), own]


def test_an_event_without_an_id_gets_one(producer: EventProducer) -> None:
    first, second = (producer.publish(FIELDS).result(timeout=10).event_id for _ in range(2))
    assert first.startswith("evt_")
    assert len(first) == len("evt_") + 26
    assert first != second


def test_an_event_keeps_its_id(producer: EventProducer) -> None:
    assert producer.publish({**FIELDS, "id": "mine-7"}).result(timeout=10).event_id == "mine-7"


async def test_an_acknowledgement_can_be_awaited(producer: EventProducer) -> None:
    ack = await asyncio.wait_for(asyncio.wrap_future(producer.publish(LAUNCHED)), 10)
    assert ack.topic == "session-events"


def test_a_flush_waits_for_all_acknowledgements(producer: EventProducer) -> None:
    futures = [producer.publish(FIELDS) for _ in range(1000)]
    assert producer.flush(10)
    assert all(future.done() for future in futures)


@pytest.mark.parametrize("name", ["flush", "close"])
def test_a_callback_may_not_wait_for_its_own_producer(brokers: str, name: str) -> None:
    raised: Future[str] = Future()

    def wait(_: Future[Ack]) -> None:
        with pytest.raises(RuntimeError) as caught:
            getattr(producer, name)()
        raised.set_result(str(caught.value))

    # Late enough for the callback to be there.
    with EventProducer(brokers, properties={"linger.ms": 200}) as producer:
        producer.publish(FIELDS).add_done_callback(wait)
        assert raised.result(timeout=10).endswith("call it from another thread")
        assert producer.publish(FIELDS).result(timeout=10)


def test_leaving_the_with_block_flushes(brokers: str) -> None:
    with EventProducer(brokers, topic="other-events") as producer:
        future = producer.publish(FIELDS)
    assert future.result(timeout=0).topic == "other-events"


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({**FIELDS, "type": "session.opened"}, ["type"]),
        ({**FIELDS, "accountId": "a.b", "data": {**SESSION, "score": 1}}, ["accountId", "data.score"]),
        ({**FIELDS, "createdAt": "yesterday"}, ["createdAt"]),
        (replace(LAUNCHED, data={"sessionId": "sess_1"}), ["data.packageId", "data.learnerId"]),
        (replace(LAUNCHED, id=""), ["id"]),
        (replace(LAUNCHED, occurred_at=datetime(2026, 4, 10)), ["createdAt"]),
        (replace(LAUNCHED, occurred_at=datetime.now(UTC) + timedelta(hours=25)), ["createdAt"]),
        ({**FIELDS, "createdAt": "9999-12-31T00:00:00Z"}, ["createdAt"]),
        (replace(LAUNCHED, test=True), ["test"]),
    ],
)
def test_an_invalid_event_is_refused_with_its_fields(
    producer: EventProducer, wrong: Event | dict[str, Any], names: list[str]
) -> None:
    with pytest.raises(Invalid) as refused:
        producer.publish(wrong)
    assert [error.field for error in refused.value.errors] == names


def test_a_full_queue_raises_at_once() -> None:
    producer = EventProducer(NOWHERE, properties={"queue.buffering.max.messages": 2, "log_level": 0})
    waiting = [producer.publish(FIELDS) for _ in range(2)]
    with pytest.raises(Unavailable, match="the local queue is full"):
        producer.publish(FIELDS)
    assert not any(future.done() for future in waiting)
    producer.close(0)


@pytest.mark.parametrize("empty", ["", "  ", ","])
def test_an_empty_address_is_refused(empty: str) -> None:
    with pytest.raises(Misconfigured, match="bootstrap_servers is empty"):
        EventProducer(empty)


AFTER_A_FORK = """
import os, sys
from streams.core.errors import Misconfigured
from streams.producer import EventProducer
producer = EventProducer(sys.argv[1])
if os.fork() == 0:
    try:
        producer.publish({})
    except Misconfigured as refused:
        print(refused, flush=True)
    with producer:
        pass
    sys.exit(0)
_, status = os.wait()
sys.exit(os.waitstatus_to_exitcode(status))
"""
WITHOUT_CLOSE = f"""
import sys
from streams.producer import EventProducer
producer = EventProducer(sys.argv[1], properties={{"log_level": 0}})
future = producer.publish({{**{FIELDS!r}, "id": "evt_last"}})
future.add_done_callback(lambda done: print(done.exception() or done.result(), flush=True))
"""


def in_a_process(code: str, address: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-c", code, address], capture_output=True, text=True, timeout=30)


def test_after_a_fork_a_child_needs_its_own_producer() -> None:
    done = in_a_process(AFTER_A_FORK, NOWHERE)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert re.match(r"this EventProducer was made in process \d+, before a fork", done.stdout)


def test_the_exit_waits_for_acknowledgements(brokers: str) -> None:
    done = in_a_process(WITHOUT_CLOSE, brokers)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Ack(event_id='evt_last'")


def test_the_exit_names_unacknowledged_events() -> None:
    started = time.monotonic()
    done = in_a_process(WITHOUT_CLOSE, NOWHERE)
    assert time.monotonic() - started < 15
    assert done.returncode == 0
    assert "Kafka has not acknowledged all events; missing: 1, with the ids evt_last" in done.stderr
    assert "Kafka did not take the event" in done.stdout


def test_the_exit_names_events_that_kafka_refuses(caplog: pytest.LogCaptureFixture) -> None:
    class RefusedProducer(EventProducer):
        """Its producer fails for good while the interpreter ends."""

        def flush(self, timeout_seconds: float = 10) -> bool:
            self._fail(KafkaError(KafkaError._FATAL))
            return super().flush(timeout_seconds)

    producer = RefusedProducer(NOWHERE, properties={"log_level": 0})
    future = producer.publish(LAUNCHED)
    producer._close_at_exit()
    assert isinstance(future.exception(timeout=0), Unavailable)
    assert "Kafka has not acknowledged all events; missing: 1, with the ids evt_1" in caplog.text


def test_closing_completes_every_future() -> None:
    producer = EventProducer(NOWHERE, properties={"log_level": 0})
    future = producer.publish(FIELDS)
    assert not producer.close(0)
    assert isinstance(future.exception(timeout=0), Unavailable)
    with pytest.raises(Unavailable, match="closed"):
        producer.publish(FIELDS)


def test_a_producer_that_kafka_refuses_fails_every_future() -> None:
    with RefusingBroker([Topic(SESSION_EVENTS, "session id", 1)]) as broker:
        broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
        producer = EventProducer(broker.bootstrap)
        with pytest.raises(Unavailable, match="Kafka did not take the event"):
            producer.publish(LAUNCHED).result(timeout=10)
        with pytest.raises(Unavailable, match="broken for good, make a new one"):
            producer.publish(LAUNCHED)
        producer.close()


def publish_and_close(producer: EventProducer) -> Future[Ack]:
    future = producer.publish(LAUNCHED)
    producer.close()
    return future


def test_closing_a_producer_that_kafka_refuses_ends() -> None:
    with RefusingBroker([Topic(SESSION_EVENTS, "session id", 1)]) as broker:
        broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
        producer = EventProducer(broker.bootstrap)
        # Kafka may have refused it before: then `publish` says so.
        with pytest.raises(Unavailable, match="Kafka did not take the event"):
            publish_and_close(producer).result(timeout=0)
        producer.close()


def test_an_unacknowledged_event_raises_unavailable() -> None:
    producer = EventProducer(NOWHERE, properties={"message.timeout.ms": 50, "log_level": 0})
    assert isinstance(producer.publish(FIELDS).exception(timeout=10), Unavailable)
    producer.close(0)


@pytest.mark.parametrize("properties", [{"acks": "0"}, {"enable.idempotence": False}, {"no.such.property": "1"}])
def test_an_invalid_property_is_named(properties: dict[str, Any]) -> None:
    with pytest.raises(Misconfigured, match=next(iter(properties))):
        EventProducer(NOWHERE, properties=properties)


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (SESSION, "sess_1"),
        ({"packageId": "pkg_1", "version": "7"}, "pkg_1"),
        ({"period": "2026-04", "launches": 8, "limit": 10, "thresholdPercent": 80}, "acc_1"),
    ],
)
def test_the_key_is_session_or_package_or_account(data: dict[str, Any], key: str) -> None:
    assert partition_key(replace(LAUNCHED, data=data)) == key


def record_at(brokers: str, ack: Ack) -> Message:
    consumer = Consumer(subscriptions_config({"bootstrap.servers": brokers}))
    consumer.assign([TopicPartition(ack.topic, ack.partition, ack.offset)])
    record = consumer.poll(10)
    consumer.close()
    assert record is not None
    return record


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("address", ["nowhere", "silent"])
def test_an_event_fails_after_its_timeout(request: pytest.FixtureRequest, address: str) -> None:
    servers = NOWHERE if address == "nowhere" else request.getfixturevalue(address)
    producer = EventProducer(servers, timeout_seconds=1)
    began = time.monotonic()
    assert isinstance(producer.publish(FIELDS).exception(timeout=20), Unavailable)
    assert 0.9 < time.monotonic() - began < 10
    producer.close(0)


def test_a_timeout_of_nothing_is_refused() -> None:
    with pytest.raises(Misconfigured, match="timeout_seconds must be more than 0"):
        EventProducer(NOWHERE, timeout_seconds=0)


def test_the_fake_refuses_what_the_real_one_does() -> None:
    with_metadata = {**FIELDS, "data": {**LAUNCHED.data, "metadata": {"department": "sales"}}}
    producer = FakeProducer()
    producer.publish(with_metadata)
    assert producer.published[0].data["metadata"] == {"department": "sales"}
    with pytest.raises(Invalid, match=r"data\.metadata: "):
        producer.publish({**FIELDS, "data": {**LAUNCHED.data, "metadata": {"department": "\ud800"}}})


def test_an_outage_is_two_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    [node] = broker.list_topics(timeout=10).brokers.values()
    with EventProducer(f"{node.host}:{node.port}", properties={"reconnect.backoff.max.ms": 100}) as producer:
        producer.publish(FIELDS).result(timeout=10)
        producer._note_outage(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        producer._note_outage(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        producer.publish(FIELDS).result(timeout=10)
    away, back = caplog.records
    assert (away.levelname, back.levelname) == ("WARNING", "INFO")
    assert away.getMessage().startswith("Kafka cannot be reached, and events wait: ")
    assert back.getMessage() == "Kafka acknowledges events again, after 0 s"


def test_a_broker_that_is_away_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    producer = EventProducer(NOWHERE, timeout_seconds=2, properties={"reconnect.backoff.max.ms": 100})
    producer.publish(FIELDS).exception(timeout=20)
    producer.close(0)
    [line] = caplog.records
    assert "Connection refused" in line.getMessage()


async def test_a_request_awaits_its_acknowledgement(producer: EventProducer) -> None:
    assert (await producer.publish_async(LAUNCHED)).event_id == "evt_1"
    with pytest.raises(Invalid):
        await producer.publish_async({**FIELDS, "type": "unknown"})


async def test_a_slow_registry_does_not_block_the_loop(brokers: str) -> None:
    class SlowCodec:
        def encode(self, value: RecordValue) -> bytes:
            assert threading.current_thread() is not threading.main_thread()
            return b"encoded"

        def decode(self, value: bytes) -> RecordValue:
            raise NotImplementedError

    with EventProducer(brokers, codec=SlowCodec()) as producer:
        await producer.publish_async(LAUNCHED)


async def test_a_fake_takes_the_producers_place() -> None:
    with FakeProducer() as fake:
        assert fake.publish(FIELDS).result().offset == 0
        with pytest.raises(Invalid):
            fake.publish({**FIELDS, "accountId": ""})
        fake.failure = Unavailable("Kafka does not answer")
        with pytest.raises(Unavailable):
            await fake.publish_async(LAUNCHED)
        fake.failure = None
        assert await fake.publish_async(LAUNCHED) == Ack("evt_1", "session-events", 0, 1)
    assert [event.id for event in fake.published][1:] == ["evt_1"]
    with pytest.raises(Unavailable, match="closed"):
        fake.publish(FIELDS)


def test_a_fake_has_every_method_of_the_producer() -> None:
    for name, method in inspect.getmembers(EventProducer, inspect.isfunction):
        if not name.startswith("_") or name in ("__enter__", "__exit__"):
            assert inspect.signature(getattr(FakeProducer, name)).parameters == inspect.signature(method).parameters


@pytest.mark.parametrize("number", [0, 2, 3])
async def test_the_examples_of_the_document_work(brokers: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    code = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[number]
    names: dict[str, Any] = {}
    # tests/test_producer_package.py installs the package that the document imports, which has the same names.
    for documented, ours in (
        ("scorm_webhooks_producer.testing", "streams.testing"),
        ("scorm_webhooks_producer", "streams.producer"),
        ("kafka:9092", brokers),
    ):
        code = code.replace(documented, ours)
    exec(code, names)
    if number == 0:
        assert "Ack(event_id='evt_1', topic='session-events'" in capsys.readouterr().out
    if app := names.get("app"):
        async with app.router.lifespan_context(app), httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            made = await client.post("http://app/courses/pkg_1/versions/2")
            assert made.json() == {"eventId": "version-pkg_1-2"}
            refused = await client.post("http://app/courses/a b/versions/2")
            assert (refused.status_code, "packageId" in refused.text) == (422, True)
