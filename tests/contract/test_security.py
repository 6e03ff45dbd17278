"""Every Kafka client uses the configured security, and logs why a broker rejects it."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from builders import webhook
from fakes import EventConsumer, FakeTelemetry, until
from real.secured_kafka import PASSWORD, USER, SecuredKafka, by_password
from streams.adapters.faust.client import FaustClient, FaustCrashed
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.kafka.connection.config import kafka_properties
from streams.adapters.kafka.producing import record_producer
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Misconfigured, Unavailable
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Outgoing, Partition, Record
from streams.producer import EventProducer
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.startup_checks import StartupChecks
from streams.topics import ATTEMPTS, SESSION_EVENTS, SUBSCRIPTIONS, declare

Environ = Mapping[str, str]
TOPICS = declare(parse_schedule("1s"), 1, 1)
SECONDS = 30.0
EVENT = {
    "type": "session.launched",
    "accountId": "acme",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"},
}


def by_certificate(kafka: SecuredKafka) -> Environ:
    return {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.certificate_listener,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "SSL",
        "KAFKA_CONFIG_SSL_CA_LOCATION": str(kafka.authority),
        "KAFKA_CONFIG_SSL_CERTIFICATE_LOCATION": str(kafka.client),
        "KAFKA_CONFIG_SSL_KEY_LOCATION": str(kafka.client),
    }


class RecordCollector:
    """Collects the records of a consumer."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None: ...

    def on_received(self, records: Sequence[Record]) -> None:
        self.records += records

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        return {}


@asynccontextmanager
async def in_background(work: Coroutine[Any, Any, Any]) -> AsyncIterator[None]:
    """Run a task during the block. It must end in time when it is cancelled."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        ended, _ = await asyncio.wait({task}, timeout=SECONDS)
        assert ended, "it hangs"


# -- who may come in -------------------------------------------------------------------------------------------


@pytest.fixture(params=["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "certificate"])
def environ(request: pytest.FixtureRequest, secured_kafka: SecuredKafka, topic_prefix: str) -> Environ:
    """The environment of a client with valid credentials for a listener, where every topic exists."""
    listener = request.param
    key = by_certificate(secured_kafka) if listener == "certificate" else by_password(secured_kafka, listener)
    admin = TopicsAdmin(kafka_properties(key), topic_prefix)
    admin.apply(admin.plan(TOPICS))
    return {**key, "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix}


@asynccontextmanager
async def log_of(deployment: SqlDeployment) -> AsyncIterator[KafkaRecordProducer]:
    producer = deployment.producer(FakeTelemetry())
    try:
        yield producer
    finally:
        await producer.close()


def test_topics_are_made_and_seen(environ: Environ) -> None:
    existing = SqlDeployment.from_environment(environ).topics_admin().partition_counts()
    assert existing == {topic.name: topic.partitions for topic in TOPICS}


async def test_produced_records_are_consumed_and_committed(environ: Environ) -> None:
    deployment, handler = SqlDeployment.from_environment(environ), RecordCollector()
    consumer = deployment.consumer("record", [ATTEMPTS], FakeTelemetry())
    async with log_of(deployment) as producer, in_background(consumer.run(handler)):
        await asyncio.wait_for(producer.produce([Outgoing(ATTEMPTS, b"key", b"value")]), SECONDS)
        await until(lambda: bool(handler.records), SECONDS)
        await asyncio.wait_for(consumer.commit({handler.records[0].partition: Commit(1, "")}), SECONDS)
    assert handler.records[0].value == b"value"


async def test_the_subscriptions_are_read(environ: Environ) -> None:
    deployment = SqlDeployment.from_environment(environ)
    subscriptions = deployment.subscriptions_reader(FakeTelemetry())
    async with log_of(deployment) as producer, in_background(subscriptions.run()):
        known = Outgoing(SUBSCRIPTIONS, b"wh_1", deployment.codec.encode(webhook(id="wh_1")))
        all_of_them = Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 1).encode())
        await asyncio.wait_for(producer.produce([known, all_of_them]), SECONDS)
        await asyncio.wait_for(subscriptions.wait_until_ready(), SECONDS)
        await asyncio.wait_for(subscriptions.catch_up(), SECONDS)
        assert subscriptions.find("wh_1")


def test_the_password_of_the_document_publishes(secured_kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Path(__file__).parents[2] / "docs" / "publishing.md"
    [code] = [code for code in re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL) if "SCRAM" in code]
    monkeypatch.setenv("KAFKA_PASSWORD", PASSWORD)
    for documented, here in (
        ("kafka:9093", secured_kafka.password_listener),
        ('"platform"', f'"{USER}"'),
        ("kafka-ca.pem", str(secured_kafka.authority)),
    ):
        assert documented in code
        code = code.replace(documented, here)
    admin = TopicsAdmin({"bootstrap.servers": secured_kafka.bootstrap}, "")
    admin.apply(admin.plan(TOPICS))
    # Its last line waits for the acknowledgement.
    exec(code, {"os": os, "EventProducer": EventProducer, "event": EVENT})


async def test_faust_reads_what_a_producer_team_publishes(environ: Environ, topic_prefix: str) -> None:
    properties = kafka_properties(environ)
    theirs = {name: value for name, value in properties.items() if name != "bootstrap.servers"}
    topic = topic_prefix + SESSION_EVENTS
    with EventProducer(environ["KAFKA_BOOTSTRAP_SERVERS"], topic=topic, properties=theirs) as producer:
        await asyncio.wait_for(asyncio.wrap_future(producer.publish(EVENT)), SECONDS)
    read: list[Record] = []

    async def handle(records: Sequence[Record]) -> None:
        read.extend(records)

    client = FaustClient(properties, "fan-out", SESSION_EVENTS, topic_prefix, None, FakeTelemetry())
    async with in_background(EventConsumer(client).run(handle)):
        await until(lambda: len(read) == 1, SECONDS)


# -- rejected clients ---------------------------------------------------------------------------

PASSWORD_REFUSED = "Authentication failed"


@pytest.fixture(params=["wrong password", "wrong SCRAM password", "strange authority", "no certificate"])
def refused(request: pytest.FixtureRequest, secured_kafka: SecuredKafka, tmp_path: Path) -> tuple[Environ, str]:
    """The environment of a client that the broker rejects, and a part of the reason."""
    if request.param == "wrong password":
        return {**by_password(secured_kafka, "PLAIN"), "KAFKA_CONFIG_SASL_PASSWORD": "wrong"}, PASSWORD_REFUSED
    if request.param == "wrong SCRAM password":
        return {**by_password(secured_kafka, "SCRAM-SHA-256"), "KAFKA_CONFIG_SASL_PASSWORD": "wrong"}, PASSWORD_REFUSED
    if request.param == "strange authority":
        strange = tmp_path / "strange.pem"
        trustme.CA().cert_pem.write_to_path(strange)
        named = {"KAFKA_CONFIG_SSL_CA_LOCATION": str(strange)}
        return {**by_password(secured_kafka, "PLAIN"), **named}, "certificate verify failed"
    without = by_certificate(secured_kafka).items()
    return {name: value for name, value in without if "_CERTIFICATE_" not in name and "_KEY_" not in name}, "alert bad"


def test_a_stage_that_may_not_come_in_says_so_at_its_start(refused: tuple[Environ, str]) -> None:
    environ, message = refused
    with pytest.raises(Unavailable, match=message) as raised:
        StartupChecks([ATTEMPTS]).wait_or_raise(SqlDeployment.from_environment(environ), timeout_seconds=0)
    assert "\n" not in str(raised.value)


Run = Callable[[SqlDeployment, FakeTelemetry], Coroutine[Any, Any, Any]]


async def run_consumer(deployment: SqlDeployment, telemetry: FakeTelemetry) -> None:
    await deployment.consumer("record", [ATTEMPTS], telemetry).run(RecordCollector())


async def run_reader(deployment: SqlDeployment, telemetry: FakeTelemetry) -> None:
    await deployment.subscriptions_reader(telemetry).run()


async def run_producer(deployment: SqlDeployment, telemetry: FakeTelemetry) -> None:
    producer = deployment.producer(telemetry)
    try:
        await producer.produce([Outgoing(ATTEMPTS, b"key", b"value")])
    finally:
        await producer.close()


@pytest.mark.parametrize("run", [run_consumer, run_reader, run_producer])
async def test_a_rejected_client_logs_the_reason_once_and_stops(
    run: Run, refused: tuple[Environ, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    environ, message = refused
    monkeypatch.setattr(record_producer, "FLUSH_TIMEOUT_SECONDS", 1.0)
    telemetry = FakeTelemetry()
    async with in_background(run(SqlDeployment.from_environment(environ), telemetry)):
        await until(lambda: bool(telemetry.logged), SECONDS)
    [(entry, about)] = telemetry.logged
    assert entry == "broker_unreachable"
    assert message in str(about["why"])


async def test_faust_ends_and_its_log_says_why(
    refused: tuple[Environ, str], topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ, message = refused
    client = FaustClient(kafka_properties(environ), "fan-out", SESSION_EVENTS, topic_prefix, None, FakeTelemetry())

    async def handle(records: Sequence[Record]) -> None: ...

    with pytest.raises(FaustCrashed, match="Unable to bootstrap"):
        await asyncio.wait_for(EventConsumer(client).run(handle), SECONDS)
    # Python's TLS sees a rejected certificate only as a closed connection.
    assert (message if message != "alert bad" else "closed") in caplog.text


def test_a_rejected_event_producer_names_the_reason(refused: tuple[Environ, str]) -> None:
    environ, message = refused
    theirs = {name: value for name, value in kafka_properties(environ).items() if name != "bootstrap.servers"}
    patience = {"message.timeout.ms": "3000"}
    with EventProducer(environ["KAFKA_BOOTSTRAP_SERVERS"], properties={**theirs, **patience}) as producer:
        error = producer.publish(EVENT).exception(SECONDS)
    assert isinstance(error, Unavailable if message == "alert bad" else Misconfigured)
    assert message in str(error)
