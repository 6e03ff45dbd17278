"""Store invalid records in `session-events.invalid`, with their origin and the error."""

import hashlib
from collections.abc import Collection, Mapping, Sequence

from streams.core.errors import RecordsRefused
from streams.core.records.invalid_record import (
    APPENDED_AT_HEADER,
    ERROR_HEADER,
    OFFSET_HEADER,
    PARTITION_HEADER,
    TOPIC_HEADER,
    VALUE_BYTES_HEADER,
    VALUE_SHA256_HEADER,
)
from streams.ports.kafka import Outgoing, Record, RecordProducer
from streams.ports.runtime import Telemetry
from streams.topics import INVALID

# Only the start of a larger record (with its key and headers) is stored; its origin says where the whole record is.
MAX_STORED_BYTES = 1024 * 1024
TRUNCATED_BYTES = 4096
MAX_ERROR_BYTES = 1024


def to_invalid_record(record: Record, error: str) -> Outgoing:
    """The record for `session-events.invalid`: the same key, value and headers, with origin and error added.

    If it has more than `MAX_STORED_BYTES`, only the start of the value is stored, with its length and SHA-256.
    """
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name.encode(errors="replace")) + len(value) for name, value in record.headers)
    if size > MAX_STORED_BYTES:
        return to_truncated_invalid_record(record, error)
    return Outgoing(INVALID, record.key, record.value, (*record.headers, *_origin_headers(record, error)))


def to_truncated_invalid_record(record: Record, error: str) -> Outgoing:
    """A small record for `session-events.invalid`: the start of the value, with its length and SHA-256."""
    value = record.value or b""
    size_headers = (
        (VALUE_BYTES_HEADER, str(len(value)).encode()),
        (VALUE_SHA256_HEADER, hashlib.sha256(value).hexdigest().encode()),
    )
    return Outgoing(INVALID, None, value[:TRUNCATED_BYTES], (*_origin_headers(record, error), *size_headers))


def _origin_headers(record: Record, error: str) -> tuple[tuple[str, bytes], ...]:
    return (
        (TOPIC_HEADER, record.partition.topic.encode()),
        (PARTITION_HEADER, str(record.partition.number).encode()),
        (OFFSET_HEADER, str(record.offset).encode()),
        (APPENDED_AT_HEADER, record.appended_at.isoformat().encode()),
        (ERROR_HEADER, error.encode(errors="replace")[:MAX_ERROR_BYTES]),
    )


async def produce_or_store_invalid(
    producer: RecordProducer, telemetry: Telemetry, outgoing: Sequence[tuple[Outgoing, Record]]
) -> Collection[int]:
    """Produce records, each paired with its source record. A permanently refused record becomes invalid.

    Returns the indexes of the refused records when all others are acknowledged. One does not stop the others.
    """
    if not (refusals := await _produce(producer, [record for record, _ in outgoing])):
        return ()
    # An event of several deliveries is stored once.
    sources = {(*outgoing[index][1].partition, outgoing[index][1].offset): index for index in refusals}
    await store_invalid(
        producer,
        telemetry,
        [(outgoing[index][1], f"Kafka refuses what follows from it: {refusals[index]}") for index in sources.values()],
    )
    return refusals.keys()


async def store_invalid(producer: RecordProducer, telemetry: Telemetry, invalid: Sequence[tuple[Record, str]]) -> None:
    """Store invalid records with their errors: whole, or only the start if Kafka refuses the whole record."""
    if not invalid:
        return
    refusals = await _produce(producer, [to_invalid_record(record, error) for record, error in invalid])
    truncated_records = [invalid[index] for index in refusals]
    refusals = await _produce(
        producer, [to_truncated_invalid_record(record, error) for record, error in truncated_records]
    )
    for record, error in invalid:
        telemetry.count("invalid_records_total", topic=record.partition.topic)
        telemetry.warning("invalid_record_stored", **record.place, why=error)
    for index, reason in refusals.items():
        # The record stays on its own topic until retention.
        record, _ = truncated_records[index]
        telemetry.count("invalid_records_not_stored_total", topic=record.partition.topic)
        telemetry.error("invalid_record_not_stored", **record.place, why=reason)


async def _produce(producer: RecordProducer, records: Sequence[Outgoing]) -> Mapping[int, str]:
    """Produce records. Returns why Kafka refuses some of them permanently, by index."""
    try:
        if records:
            await producer.produce(records)
    except RecordsRefused as error:
        return error.reasons
    return {}
