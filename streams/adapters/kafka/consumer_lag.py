"""Count the records that a consumer group has not committed."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.core.errors import Unavailable

RETRY_SECONDS = 0.1

# Errors of a cluster or a topic that just started.
_TRANSIENT = frozenset(
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


def consumer_lag(admin: AdminClient, group: str, topics: Mapping[str, int], seconds: float) -> dict[str, int]:
    """The lag of a group by topic. `topics` has the partition count of each topic. Raises `Unavailable`.

    Records beyond the committed offset count, even if the commit's metadata says that they are complete.
    """
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]

    def committed() -> list[TopicPartition]:
        [response] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)]).values()
        found: list[TopicPartition] = response.result(seconds).topic_partitions
        return found

    def edge(which: OffsetSpec) -> dict[TopicPartition, int]:
        responses = admin.list_offsets(dict.fromkeys(partitions, which))
        return {partition: response.result(seconds).offset for partition, response in responses.items()}

    # The end last, so that records appended meanwhile count.
    done = _retry(committed, seconds)
    starts = _retry(lambda: edge(OffsetSpec.earliest()), seconds)
    ends = _retry(lambda: edge(OffsetSpec.latest()), seconds)
    left = dict.fromkeys(topics, 0)
    for partition in done:
        # Without a commit the offset is negative. Records that retention deleted do not count.
        left[partition.topic] += ends[partition] - max(partition.offset, starts[partition])
    return left


def _retry(ask: Callable[[], Response], seconds: float) -> Response:
    """Repeat a request while its error is transient."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except KafkaException as refusal:
            error: KafkaError = refusal.args[0]
            if error.code() not in _TRANSIENT or time.monotonic() > deadline:
                raise Unavailable(error.str()) from None
            time.sleep(RETRY_SECONDS)
