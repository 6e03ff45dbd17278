"""Find how far a consumer group has committed, and how many records are still uncommitted."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.adapters.kafka.connection.transient_errors import repeat_if_transient, require_accepted
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.errors import Unavailable
from streams.ports.kafka import Partition


def consumer_lag(
    admin: AdminClient, properties: Mapping[str, Any], group: str, topics: Mapping[str, int], seconds: float
) -> dict[str, int]:
    """The lag of a group by topic. `topics` has the partition count of each topic. Raises `Unavailable`.

    Counts records beyond the committed offset, even if the commit's metadata marks them as complete.
    """
    lag = dict.fromkeys(topics, 0)
    for partition, offsets_of_partition in group_offsets(admin, properties, group, topics, seconds).items():
        lag[partition.topic] += offsets_of_partition.end - offsets_of_partition.committed
    return lag


def group_offsets(
    admin: AdminClient, properties: Mapping[str, Any], group: str, topics: Mapping[str, int], seconds: float
) -> dict[Partition, GroupOffsets]:
    """The offsets of a group by partition; without a commit, the first record's. Raises `Unavailable`."""
    partitions = [TopicPartition(topic, number) for topic, count in topics.items() for number in range(count)]
    # librdkafka 2.16.0's own request for a group's offsets ends an admin client's process by SIGSEGV while the group's
    # coordinator loads or moves: it uses a consumer group object that an admin client does not have. A consumer does.
    consumer = Consumer({**properties, "group.id": group, "enable.auto.commit": False})

    def list_offsets(spec: OffsetSpec) -> dict[TopicPartition, int]:
        responses = admin.list_offsets(dict.fromkeys(partitions, spec))
        return {partition: response.result(seconds).offset for partition, response in responses.items()}

    # List the end last, so that records appended meanwhile count.
    try:
        committed_partitions = repeat_if_transient(
            lambda: require_accepted(consumer.committed(partitions, seconds)), seconds
        )
        starts = repeat_if_transient(lambda: list_offsets(OffsetSpec.earliest()), seconds)
        ends = repeat_if_transient(lambda: list_offsets(OffsetSpec.latest()), seconds)
    except KafkaException as error:
        raise Unavailable(error.args[0].str()) from None
    finally:
        consumer.close()
    # Without a commit the offset is negative. Records that retention deleted do not count.
    return {
        Partition(commit.topic, commit.partition): GroupOffsets(max(commit.offset, starts[commit]), ends[commit])
        for commit in committed_partitions
    }
