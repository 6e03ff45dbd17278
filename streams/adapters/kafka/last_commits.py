"""Read and write a partition's last commit while the members of the group change."""

import time
from collections.abc import Callable

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

AGAIN_SECONDS = 0.1
# They pass. STALE_MEMBER_EPOCH is the answer until a heartbeat has told the client its newer epoch; librdkafka itself
# asks again only for the offsets from which it reads.
_PASSING = frozenset(
    {
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
        KafkaError._TRANSPORT,
        KafkaError._WAIT_COORD,
    }
)


def read_commits(consumer: Consumer, partitions: list[TopicPartition], seconds: float) -> list[TopicPartition]:
    """The commits of these partitions. Asks again for up to `seconds`; raises `KafkaException`."""
    return _ask(lambda left: consumer.committed(partitions, timeout=left), seconds)


def write_commits(consumer: Consumer, ends: list[TopicPartition], seconds: float) -> None:
    """Commit, and wait for the answer. Tries again for up to `seconds`; raises `KafkaException`."""
    _ask(lambda _: consumer.commit(offsets=ends, asynchronous=False), seconds)


def _ask(request: Callable[[float], list[TopicPartition]], seconds: float) -> list[TopicPartition]:
    ends_at = time.monotonic() + seconds
    while True:
        try:
            answer = request(max(AGAIN_SECONDS, ends_at - time.monotonic()))
        except KafkaException as failed:
            error = failed.args[0]
        else:
            error = next((each.error for each in answer if each.error), None)
        if error is None:
            return answer
        if error.code() not in _PASSING or time.monotonic() + AGAIN_SECONDS > ends_at:
            raise KafkaException(error)
        time.sleep(AGAIN_SECONDS)
