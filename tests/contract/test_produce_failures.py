"""Records for a topic without permission wait, and leave no tasks behind."""

import asyncio
import ctypes
import gc
from collections.abc import Iterator

import pytest
from confluent_kafka import KafkaError

from contract.clusters import numbered, until
from contract.refusing_broker import INIT_PRODUCER_ID_REQUEST, PRODUCE_REQUEST, RefusingBroker
from fakes import FakeTelemetry
from streams.adapters.kafka.connection.config import producer_config
from streams.adapters.kafka.producing.record_producer import RETRY_SECONDS, KafkaRecordProducer, ProducerFailed
from streams.outage import Outages
from streams.topics import ATTEMPTS, DELIVERIES, Topic

DENIED = KafkaError.TOPIC_AUTHORIZATION_FAILED
# An error of one produce request. After `DENIED`, librdkafka fails each record for some seconds.
REFUSED = KafkaError.POLICY_VIOLATION
SECONDS = 20


class DenyingBroker(RefusingBroker):
    """Refuses produce requests, or denies a topic."""

    def __init__(self) -> None:
        super().__init__([Topic(ATTEMPTS, "webhook id", 1), Topic(DELIVERIES, "webhook id", 1)])
        self._library.rd_kafka_mock_topic_set_error.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]

    def refuse_requests(self, count: int) -> None:
        self.refuse(PRODUCE_REQUEST, [REFUSED] * count)

    def deny_topic(self, topic: str) -> None:
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), DENIED)

    def allow_topic(self, topic: str) -> None:
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), KafkaError.NO_ERROR)


@pytest.fixture
def broker() -> Iterator[DenyingBroker]:
    with DenyingBroker() as broker:
        yield broker


def producer_on(
    broker: DenyingBroker, telemetry: FakeTelemetry, retry_seconds: float = RETRY_SECONDS
) -> KafkaRecordProducer:
    config = producer_config({"bootstrap.servers": broker.bootstrap})
    return KafkaRecordProducer(config, "", telemetry, Outages(telemetry), retry_seconds=retry_seconds)


def tasks_in_memory() -> int:
    gc.collect()
    return sum(isinstance(one, asyncio.Task) for one in gc.get_objects())


@pytest.mark.slow
async def test_failed_retries_of_a_record_leave_nothing(broker: DenyingBroker) -> None:
    telemetry = FakeTelemetry()
    producer = producer_on(broker, telemetry, retry_seconds=0.005)
    broker.refuse_requests(60)
    before = tasks_in_memory()
    producing = asyncio.create_task(producer.produce(numbered(ATTEMPTS, 1)))
    await until(lambda: telemetry.counts["produce_errors_total"] >= 50)
    assert tasks_in_memory() - before <= 3
    assert len(await producing) == 1
    await producer.close()


async def test_a_denied_topic_is_named_while_others_take_records(broker: DenyingBroker) -> None:
    telemetry = FakeTelemetry()
    producer = producer_on(broker, telemetry)
    broker.deny_topic(ATTEMPTS)
    producing = asyncio.create_task(producer.produce(numbered(ATTEMPTS, 5)))
    await until(lambda: bool(producer.readiness_problems()))
    for _ in range(3):
        await producer.produce(numbered(DELIVERIES, 5))
        assert [ATTEMPTS in line for line in producer.readiness_problems()] == [True]
    assert len(telemetry.logged) == 1
    broker.allow_topic(ATTEMPTS)
    assert len(await producing) == 5
    assert producer.readiness_problems() == []
    assert [entry for entry, _ in telemetry.logged] == ["topic_unwritable", "topic_writable"]
    await producer.close()


async def test_a_cancelled_produce_retries_nothing(broker: DenyingBroker) -> None:
    telemetry = FakeTelemetry()
    producer = producer_on(broker, telemetry, retry_seconds=0.005)
    broker.refuse_requests(1000)
    before = asyncio.all_tasks()
    producing = asyncio.create_task(producer.produce(numbered(ATTEMPTS, 1)))
    await until(lambda: telemetry.counts["produce_errors_total"] >= 3)
    producing.cancel()
    await until(lambda: asyncio.all_tasks() == before)
    await producer.close()


@pytest.mark.slow
async def test_a_producer_that_failed_for_good_says_so(broker: DenyingBroker) -> None:
    broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
    producer = producer_on(broker, FakeTelemetry())
    watching = asyncio.create_task(producer.wait_until_failed())
    with pytest.raises(ProducerFailed):
        await producer.produce(numbered(ATTEMPTS, 1))
    with pytest.raises(ProducerFailed):
        await watching
    assert ["failed for good" in line for line in producer.readiness_problems()] == [True]
    await producer.close()


@pytest.mark.slow
async def test_a_producer_without_records_may_fail_for_good(broker: DenyingBroker) -> None:
    broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
    producer = producer_on(broker, FakeTelemetry())
    with pytest.raises(ProducerFailed):
        await asyncio.wait_for(producer.wait_until_failed(), SECONDS)
    with pytest.raises(ProducerFailed):
        await producer.produce(numbered(ATTEMPTS, 1))
    await producer.close()


@pytest.mark.slow
async def test_a_failed_producer_waits_for_no_report(broker: DenyingBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """librdkafka may keep a record until its timeout of five minutes."""
    monkeypatch.setattr(KafkaRecordProducer, "_on_delivery", lambda *report: None)
    broker.refuse(INIT_PRODUCER_ID_REQUEST, [KafkaError.CLUSTER_AUTHORIZATION_FAILED] * 3)
    producer = producer_on(broker, FakeTelemetry())
    with pytest.raises(ProducerFailed):
        await asyncio.wait_for(producer.produce(numbered(ATTEMPTS, 1)), SECONDS)
    await producer.close()
