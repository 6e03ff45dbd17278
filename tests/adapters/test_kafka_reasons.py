"""Why Kafka does not answer, in one line that stays the same while the reason does."""

import pytest
from confluent_kafka import KafkaError

from streams.adapters.kafka.connection.connection_errors import unreachable_error

REFUSED = "kafka:9092/bootstrap: Connect to ipv4#10.0.0.5:9092 failed: Connection refused"


@pytest.mark.parametrize(
    "counted",
    ["", " (after 0ms in state CONNECT)", " (after 12ms in state CONNECT, 30 identical error(s) suppressed)"],
)
def test_the_reason_has_no_counts(counted: str) -> None:
    error = unreachable_error("kafka:9092", KafkaError(KafkaError._TRANSPORT, REFUSED + counted))
    assert str(error) == f"Kafka does not answer: KAFKA_BOOTSTRAP_SERVERS is kafka:9092 ({REFUSED})"
