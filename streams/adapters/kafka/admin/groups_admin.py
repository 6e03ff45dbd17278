"""Move the committed offsets of a consumer group while none of its members runs."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.adapters.kafka.admin.topics_admin import REQUEST_SECONDS, TopicsAdmin
from streams.adapters.kafka.connection.transient_errors import repeat_if_transient, require_accepted
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.errors import Conflict, NotFound, Unavailable
from streams.ports.kafka import Partition

# Kafka's errors while the group has members, by its protocol.
_HAS_MEMBERS_CODES = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)


class GroupsAdmin(TopicsAdmin):
    """Moves groups. Names of groups and topics get the prefix. Raises `Unavailable` if no broker responds."""

    def rewind(self, group: str, topics: Iterable[str], since: datetime) -> int:
        """Commit the first records that were appended at `since` or later, if the group is past them.

        Returns how many records the group will read again. Raises `Conflict` while the group has members.
        """
        committed_offsets, new_offsets = self._rewound(group, topics, since)
        # Commit unmoved offsets too: only at a commit does Kafka say whether the group has members.
        self._commit(group, new_offsets)
        return sum(old.committed - new_offsets[partition] for partition, old in committed_offsets.items())

    def count_after_rewind(self, group: str, topics: Iterable[str], since: datetime) -> int:
        """How many records the group would read after a `rewind`. Changes nothing."""
        committed_offsets, new_offsets = self._rewound(group, topics, since)
        return sum(old.end - new_offsets[partition] for partition, old in committed_offsets.items())

    def _rewound(
        self, group: str, topics: Iterable[str], since: datetime
    ) -> tuple[Mapping[Partition, GroupOffsets], Mapping[Partition, int]]:
        """The group's offsets, and the lower ones of the first records since a time."""
        committed_offsets = self.offsets(group, topics)
        first_offsets = self._first_since(committed_offsets, since)
        return committed_offsets, {
            partition: min(first_offsets.get(partition, old.committed), old.committed)
            for partition, old in committed_offsets.items()
        }

    def skip(self, group: str, partition: Partition, offset: int) -> None:
        """Skip the record at `offset`, which the group reads next: commit the offset after it.

        Raises `Conflict` if it reads another record next, or has members, and `NotFound` without such a partition.
        """
        current_offsets = self.offsets(group, [partition.topic]).get(partition)
        if current_offsets is None:
            raise NotFound(f"{partition.topic} has no partition {partition.number}")
        if current_offsets.committed != offset:
            raise Conflict(
                f"{group} reads {current_offsets.committed} next in partition {partition.number} of {partition.topic}, "
                f"not {offset}"
            )
        if current_offsets.end <= offset:
            raise Conflict(
                f"partition {partition.number} of {partition.topic} has no record {offset}: "
                f"it ends at {current_offsets.end}"
            )
        self._commit(group, {partition: offset + 1})

    def _first_since(self, partitions: Iterable[Partition], start_time: datetime) -> Mapping[Partition, int]:
        """The offset of the first record since a time in each partition that has one."""
        # For Kafka a negative time means the start or the end.
        offset_spec = OffsetSpec.for_timestamp(max(0, int(start_time.timestamp() * 1000)))
        specs = {self._topic_partition(at): offset_spec for at in partitions}

        def request() -> dict[TopicPartition, int]:
            answers = self._admin.list_offsets(specs)
            return {partition: answer.result(REQUEST_SECONDS).offset for partition, answer in answers.items()}

        try:
            offsets = repeat_if_transient(request, REQUEST_SECONDS)
        except KafkaException as error:
            raise Unavailable(error.args[0].str()) from None
        return {
            Partition(at.topic.removeprefix(self._prefix), at.partition): offset
            for at, offset in offsets.items()
            if offset >= 0
        }

    def _commit(self, group: str, new_offsets: Mapping[Partition, int]) -> None:
        """Commit without joining the group, which Kafka accepts only while it has no members."""
        consumer = Consumer({**self._config, "group.id": self._prefix + group, "enable.auto.commit": False})
        offsets = [self._topic_partition(partition, offset) for partition, offset in new_offsets.items()]
        try:
            require_accepted(consumer.commit(offsets=offsets, asynchronous=False) or [])
        except KafkaException as error:
            if error.args[0].code() in _HAS_MEMBERS_CODES:
                raise Conflict(
                    f"the group {self._prefix}{group} has members: stop every process of {group} first; one of a "
                    "StatefulSet stays in it for 45 seconds after its end"
                ) from None
            raise Unavailable(error.args[0].str()) from None
        finally:
            consumer.close()

    def _topic_partition(self, partition: Partition, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._prefix + partition.topic, partition.number, offset)
