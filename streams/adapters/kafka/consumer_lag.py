"""How many records of a topic a consumer group has still to complete."""

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.core.errors import Unavailable

AGAIN_SECONDS = 0.1

# What a cluster says that has only just started, or has only just made the topic.
_TOO_EARLY = frozenset(
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
    """For each topic, given with its partitions: the records that are there and that the group has not committed.

    What a commit's metadata tells of records beyond it does not count: they are read again. Raises `Unavailable`.
    """
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]

    def committed() -> list[TopicPartition]:
        [response] = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, partitions)]).values()
        found: list[TopicPartition] = response.result(seconds).topic_partitions
        return found

    def edge(which: OffsetSpec) -> dict[TopicPartition, int]:
        responses = admin.list_offsets(dict.fromkeys(partitions, which))
        return {partition: response.result(seconds).offset for partition, response in responses.items()}

    # The end last: what is appended meanwhile is seen as unread.
    done = _patiently(committed, seconds)
    starts = _patiently(lambda: edge(OffsetSpec.earliest()), seconds)
    ends = _patiently(lambda: edge(OffsetSpec.latest()), seconds)
    left = dict.fromkeys(topics, 0)
    for partition in done:
        # Nothing committed is a negative offset; what retention took away waits no more.
        left[partition.topic] += ends[partition] - max(partition.offset, starts[partition])
    return left


def _patiently(ask: Callable[[], Response], seconds: float) -> Response:
    """Ask again while the answer is that it is too early to ask."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except KafkaException as refusal:
            error: KafkaError = refusal.args[0]
            if error.code() not in _TOO_EARLY or time.monotonic() > deadline:
                raise Unavailable(error.str()) from None
            time.sleep(AGAIN_SECONDS)
