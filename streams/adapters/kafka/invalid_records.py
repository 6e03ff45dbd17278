"""Read the records of `session-events.invalid`, without a consumer group."""

from collections.abc import Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.adapters.kafka.consuming.messages import to_record
from streams.adapters.kafka.lone_consumers import LoneConsumers
from streams.adapters.kafka.partition_bounds import partition_bounds
from streams.core.errors import NotFound, Unavailable
from streams.core.records.invalid_record import StoredRecord, parse_record_id, stored_record
from streams.ports.kafka import Record
from streams.topics import INVALID

REQUEST_SECONDS = 10.0
BATCH_SIZE = 500


class KafkaInvalidRecords:
    """Blocking reads. Raises `Unavailable` if Kafka does not respond, or the topic does not exist."""

    def __init__(self, properties: Mapping[str, Any], prefix: str) -> None:
        self._consumers = LoneConsumers(properties)
        self._prefix = prefix

    def list_newest(self, limit: int, topic: str | None = None) -> list[StoredRecord]:
        """Up to `limit` records, newest first; with `topic`, only records that came from it."""
        with self._consumers.open() as consumer:
            records: list[StoredRecord] = []
            for number, (start, end) in self._bounds(consumer).items():
                newest_records: list[StoredRecord] = []
                # Backwards in portions, because only the newest ones are wanted.
                while end > start and len(newest_records) < limit:
                    begin = max(start, end - BATCH_SIZE)
                    portion = [
                        record for record in self._read(consumer, number, begin, end) if topic in (None, record.topic)
                    ]
                    newest_records = portion + newest_records
                    end = begin
                records += newest_records[-limit:]
        return sorted(records, key=lambda record: record.stored_at, reverse=True)[:limit]

    def iterate_all(self, topic: str | None = None) -> Iterator[StoredRecord]:
        """Every record that is stored now, in the order of each partition."""
        with self._consumers.open() as consumer:
            for number, (start, end) in self._bounds(consumer).items():
                for record in self._read(consumer, number, start, end):
                    if topic in (None, record.topic):
                        yield record

    def find(self, record_id: str) -> StoredRecord:
        """Find a record. Raises `Invalid` for a malformed id, and `NotFound`."""
        number, offset = parse_record_id(record_id)
        with self._consumers.open() as consumer:
            start, end = self._bounds(consumer).get(number, (0, 0))
            if start <= offset < end:
                for record in self._read(consumer, number, offset, offset + 1):
                    return record
        raise NotFound(f"there is no invalid record {record_id}: retention may have deleted it")

    def _bounds(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        return partition_bounds(consumer, self._prefix + INVALID)

    def _read(self, consumer: Consumer, number: int, start: int, end: int) -> Iterator[StoredRecord]:
        """The records of a partition from one offset up to another."""
        partition = TopicPartition(self._prefix + INVALID, number, start)
        consumer.assign([partition])
        position = start
        while position < end:
            # `consume` alone would wait for the whole number of records.
            first = consumer.poll(REQUEST_SECONDS)
            if first is None:
                raise Unavailable(f"Kafka does not return the records of {partition.topic}")
            for message in [first, *consumer.consume(BATCH_SIZE - 1, 0)]:
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    # Offsets before the end may have no record.
                    return
                if error is not None:
                    raise KafkaException(error)
                record = to_record(message, self._prefix)
                position = record.offset + 1
                if record.offset < end:
                    yield _to_stored_record(record)


def _to_stored_record(record: Record) -> StoredRecord:
    place = record.partition.number, record.offset
    return stored_record(*place, record.appended_at, record.key, record.value, record.headers)
