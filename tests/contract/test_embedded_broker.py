"""What the embedded broker does otherwise than Kafka: docs/kafka.md says so."""

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from streams.adapters.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.slow

TOPIC = "events"
SECONDS = 10.0


@pytest.fixture(scope="module")
def servers() -> Iterator[str]:
    with EmbeddedBroker() as broker:
        broker.create(TOPIC, 1)
        yield broker.bootstrap


def client(servers: str, **properties: Any) -> dict[str, Any]:
    return {"bootstrap.servers": servers, "log_level": 0, **properties}


def values_of(servers: str, topic: str, count: int) -> list[bytes | None]:
    """What a reader of committed records gets first."""
    consumer = Consumer(client(servers, **{"group.id": "g", "isolation.level": "read_committed"}))
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        return [message.value() for message in consumer.consume(count, SECONDS)]
    finally:
        consumer.close()


def test_an_idempotent_producer_of_librdkafka_is_acknowledged(servers: str) -> None:
    acknowledged: list[Message] = []
    producer = Producer(client(servers, **{"enable.idempotence": True}))
    producer.produce(TOPIC, b"one", on_delivery=lambda error, message: acknowledged.append(message))
    assert producer.flush(SECONDS) == 0
    assert [message.offset() for message in acknowledged] == [0]


def test_an_aborted_transaction_is_read(servers: str) -> None:
    producer = Producer(client(servers, **{"transactional.id": "t"}))
    producer.init_transactions(SECONDS)
    producer.begin_transaction()
    producer.produce("transactions", b"aborted", partition=0)
    producer.flush(SECONDS)
    producer.abort_transaction(SECONDS)
    assert values_of(servers, "transactions", 1) == [b"aborted"]


def test_a_mistyped_topic_is_made(servers: str) -> None:
    found = Producer(client(servers)).list_topics("evnets", SECONDS).topics["evnets"]
    assert (found.error, len(found.partitions)) == (None, 4)


def test_no_topic_can_be_created_or_described(servers: str) -> None:
    admin = AdminClient(client(servers))
    with pytest.raises(KafkaException):
        admin.create_topics([NewTopic("new", 1, 1)], request_timeout=0.5)["new"].result(SECONDS)
    with pytest.raises(KafkaException):
        admin.describe_cluster(request_timeout=0.5).result(SECONDS)


def test_no_offset_is_found_by_time(servers: str) -> None:
    producer = Producer(client(servers))
    producer.produce("times", b"one", partition=0)
    assert producer.flush(SECONDS) == 0
    consumer = Consumer(client(servers, **{"group.id": "g"}))
    [found] = consumer.offsets_for_times([TopicPartition("times", 0, 0)], SECONDS)
    consumer.close()
    assert found.offset == -1
