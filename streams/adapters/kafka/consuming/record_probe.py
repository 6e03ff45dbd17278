"""Check with another client whether a partition has a record to read."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.connection.transient_errors import require_accepted
from streams.adapters.kafka.lone_consumers import LoneConsumers
from streams.adapters.threads import run_in_daemon_thread
from streams.ports.kafka import Partition

REQUEST_SECONDS = 5.0
MAX_READ_SECONDS = 5.0


class RecordProbe:
    """Each check opens a consumer of its own on a thread, and closes it.

    Only a readable record counts. Offsets have holes: markers of transactions, records of aborted ones, and records
    that compaction or a person deleted.
    """

    def __init__(self, properties: Mapping[str, Any], prefix: str) -> None:
        self._consumers = LoneConsumers(properties)
        self._prefix = prefix

    async def find_readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
        return await run_in_daemon_thread(partial(self._readable, positions)) if positions else set()

    def _readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
        names = {(self._prefix + partition.topic, partition.number): partition for partition in positions}
        with self._consumers.open() as consumer:
            partition_ends = [TopicPartition(topic, number, OFFSET_END) for topic, number in names]
            ends = require_accepted(consumer.offsets_for_times(partition_ends, REQUEST_SECONDS))
            partitions = [names[end.topic, end.partition] for end in ends]
            unread_offsets = {
                partition: positions[partition]
                for partition, end in zip(partitions, ends, strict=True)
                if end.offset > positions[partition]
            }
            readable = self._partitions_with_records(consumer, unread_offsets) if unread_offsets else ()
            return {names[topic, number] for topic, number in readable}

    def _partitions_with_records(
        self, consumer: Consumer, starts: Mapping[Partition, int]
    ) -> Iterator[tuple[str, int]]:
        """The partitions that have a record before the end."""
        open_partitions = {(self._prefix + partition.topic, partition.number) for partition in starts}
        consumer.assign(
            [
                TopicPartition(self._prefix + partition.topic, partition.number, at or OFFSET_BEGINNING)
                for partition, at in starts.items()
            ]
        )
        deadline = time.monotonic() + MAX_READ_SECONDS
        while open_partitions and time.monotonic() < deadline:
            if (message := consumer.poll(0.1)) is None:
                continue
            error, name = message.error(), (str(message.topic()), int(message.partition() or 0))
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            if name in open_partitions:
                open_partitions.discard(name)
                consumer.pause([TopicPartition(*name)])
                if error is None:
                    yield name
