"""Repeat requests whose errors are transient: of a cluster or topic that just started, or of a changing group."""

import time
from collections.abc import Callable, Set
from typing import TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

RETRY_SECONDS = 0.1

_TRANSIENT_CODES = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    }
)

Response = TypeVar("Response")


def repeat_if_transient(
    request: Callable[[], Response], seconds: float, transient_codes: Set[int] = _TRANSIENT_CODES
) -> Response:
    """Repeat a request while its error code is transient. Raises its `KafkaException` after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return request()
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            if kafka_error.code() not in transient_codes or time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)


def require_accepted(answer: list[TopicPartition]) -> list[TopicPartition]:
    """Return the answer. Raises the first partition's error as `KafkaException`."""
    if error := next((partition.error for partition in answer if partition.error), None):
        raise KafkaException(error)
    return answer
