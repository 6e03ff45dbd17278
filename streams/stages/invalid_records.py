"""Keep a record that nobody can use in `session-events.invalid`, with where it came from and what is wrong with it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from streams.core.errors import InvalidRecord, RecordsRefused, ScormWebhooksError
from streams.ports import Outgoing, Record, RecordProducer, Telemetry
from streams.topics import INVALID

Result = TypeVar("Result")

# A larger one, with its key and headers, is kept as its start: its origin says where the whole of it is.
KEPT_BYTES = 1024 * 1024
START_BYTES = 4096
ERROR_BYTES = 1024
# After so many failures in a row the record is parked: to end the process would stop all others.
TRIES = 3


def to_invalid_record(record: Record, error: str) -> Outgoing:
    """The record for `session-events.invalid`: same key, value and headers, its origin and error added.

    Of a record of more than `KEPT_BYTES` the start of the value is kept, with its length and its SHA-256.
    """
    size = len(record.key or b"") + len(record.value or b"")
    size += sum(len(name.encode(errors="replace")) + len(value) for name, value in record.headers)
    if size > KEPT_BYTES:
        return to_truncated_invalid_record(record, error)
    return Outgoing(INVALID, record.key, record.value, (*record.headers, *_origin(record, error)))


def to_truncated_invalid_record(record: Record, error: str) -> Outgoing:
    """The same, small whatever the record is: the start of its value, the length of all of it, and its SHA-256."""
    value = record.value or b""
    whole = (
        ("value-bytes", str(len(value)).encode()),
        ("value-sha256", hashlib.sha256(value).hexdigest().encode()),
    )
    return Outgoing(INVALID, None, value[:START_BYTES], (*_origin(record, error), *whole))


def _origin(record: Record, error: str) -> tuple[tuple[str, bytes], ...]:
    return (
        ("origin-topic", record.partition.topic.encode()),
        ("origin-partition", str(record.partition.number).encode()),
        ("origin-offset", str(record.offset).encode()),
        ("origin-appended-at", record.appended_at.isoformat().encode()),
        ("error", error.encode(errors="replace")[:ERROR_BYTES]),
    )


async def produce_or_store_invalid(
    producer: RecordProducer, telemetry: Telemetry, outgoing: Sequence[tuple[Outgoing, Record]]
) -> None:
    """Produce each with the record that it follows from; where Kafka refuses it for ever, park that record instead.

    Returns when all of it is acknowledged. Nothing that one record holds keeps the others from it.
    """
    if not (refused := await _produce(producer, [one for one, _ in outgoing])):
        return
    # An event that several webhooks want is parked once.
    sources = {(*outgoing[index][1].partition, outgoing[index][1].offset): index for index in refused}
    await store_invalid(
        producer,
        telemetry,
        [(outgoing[index][1], f"Kafka refuses what follows from it: {refused[index]}") for index in sources.values()],
    )


async def store_invalid(producer: RecordProducer, telemetry: Telemetry, invalid: Sequence[tuple[Record, str]]) -> None:
    """Park each of these records, with what is wrong with it: whole, or its start where Kafka refuses all of it."""
    if not invalid:
        return
    for record, error in invalid:
        telemetry.count("invalid_records_total", topic=record.partition.topic)
        telemetry.warning("record_parked", **record.place, why=error)
    refused = await _produce(producer, [to_invalid_record(record, error) for record, error in invalid])
    smaller = [invalid[index] for index in refused]
    refused = await _produce(producer, [to_truncated_invalid_record(record, error) for record, error in smaller])
    for index, why in refused.items():
        # It stays where it is for as long as its topic keeps it.
        record, _ = smaller[index]
        telemetry.count("invalid_records_not_stored_total", topic=record.partition.topic)
        telemetry.error("record_not_parked", **record.place, why=why)


async def _produce(producer: RecordProducer, records: Sequence[Outgoing]) -> Mapping[int, str]:
    """Which of them Kafka refuses for ever, by their index, and why."""
    try:
        if records:
            await producer.produce(records)
    except RecordsRefused as refused:
        return refused.reasons
    return {}


def run_pure(work: Callable[[], Result]) -> Result:
    """What pure work on one record returns; `InvalidRecord` when it fails in a way that nobody foresaw, each time.

    An error of ours keeps its meaning, and so does a fault of the machine: neither says anything of the record.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return work()
        except (ScormWebhooksError, OSError, MemoryError):
            raise
        except Exception as error:
            if attempt == TRIES:
                raise InvalidRecord(f"it cannot be handled ({type(error).__name__}: {error})") from error
    raise AssertionError("unreachable")
