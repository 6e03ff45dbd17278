"""Move what a consumer group has committed, while none of its members runs."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin._listoffsets import OffsetSpec

from streams.adapters.kafka.topics_admin import REQUEST_SECONDS, TopicsAdmin
from streams.adapters.kafka.transient_errors import accepted, repeat_if_transient
from streams.core.errors import Conflict, NotFound, Unavailable
from streams.ports import Partition

# What Kafka answers while the group has members, by its protocol.
_HAS_MEMBERS = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS)


class GroupsAdmin(TopicsAdmin):
    """Moves groups. Names of groups and topics get the prefix. Raises `Unavailable` when no broker answers."""

    def rewind(self, group: str, topics: Iterable[str], since: datetime) -> int:
        """Commit the first records that were appended at `since` or later, where the group is further.

        Returns how many records are read again. Raises `Conflict` while the group has members.
        """
        committed_offsets = self.offsets(group, topics)
        first = self._first_since(committed_offsets, since)
        # Also what does not move: Kafka says only at a commit whether the group has members.
        targets = {at: min(first.get(at, old.committed), old.committed) for at, old in committed_offsets.items()}
        self._commit(group, targets)
        return sum(old.committed - targets[at] for at, old in committed_offsets.items())

    def skip(self, group: str, at: Partition, offset: int) -> None:
        """Commit the record behind `offset`, which the group reads next.

        Raises `Conflict` when it reads another one next, or has members, and `NotFound` without such a partition.
        """
        current = self.offsets(group, [at.topic]).get(at)
        if current is None:
            raise NotFound(f"{at.topic} has no partition {at.number}")
        if current.committed != offset:
            raise Conflict(
                f"{group} reads {current.committed} next in partition {at.number} of {at.topic}, not {offset}"
            )
        if current.end <= offset:
            raise Conflict(f"partition {at.number} of {at.topic} has no record {offset}: it ends at {current.end}")
        self._commit(group, {at: offset + 1})

    def _first_since(self, partitions: Iterable[Partition], start_time: datetime) -> Mapping[Partition, int]:
        """The offset of the first record since a time in each partition that has one."""
        # Kafka reads a negative time as the start or the end.
        since = OffsetSpec.for_timestamp(max(0, int(start_time.timestamp() * 1000)))
        specs = {self._topic_partition(at): since for at in partitions}

        def ask() -> dict[TopicPartition, int]:
            answers = self._admin.list_offsets(specs)
            return {partition: answer.result(REQUEST_SECONDS).offset for partition, answer in answers.items()}

        try:
            offsets = repeat_if_transient(ask, REQUEST_SECONDS)
        except KafkaException as error:
            raise Unavailable(error.args[0].str()) from None
        return {
            Partition(at.topic.removeprefix(self._prefix), at.partition): offset
            for at, offset in offsets.items()
            if offset >= 0
        }

    def _commit(self, group: str, targets: Mapping[Partition, int]) -> None:
        """Commit without joining the group, which Kafka accepts only while it has no members."""
        consumer = Consumer({**self._config, "group.id": self._prefix + group, "enable.auto.commit": False})
        offsets = [self._topic_partition(at, offset) for at, offset in targets.items()]
        try:
            accepted(consumer.commit(offsets=offsets, asynchronous=False) or [])
        except KafkaException as error:
            if error.args[0].code() in _HAS_MEMBERS:
                raise Conflict(
                    f"the group {self._prefix}{group} has members: stop every process of {group} first; one of a "
                    "StatefulSet stays in it for 45 seconds after its end"
                ) from None
            raise Unavailable(error.args[0].str()) from None
        finally:
            consumer.close()

    def _topic_partition(self, at: Partition, offset: int = -1001) -> TopicPartition:
        return TopicPartition(self._prefix + at.topic, at.number, offset)
