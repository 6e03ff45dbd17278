"""Convert librdkafka's messages to records."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from operator import methodcaller
from typing import Any

from confluent_kafka import Message, TopicPartition

from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Partition, Record

# Without a logger, librdkafka writes to standard error in its own format.
LIBRDKAFKA_LOGGER = logging.getLogger("librdkafka")


def to_record(message: Message, prefix: str) -> Record:
    """Convert a message. Its topic loses the deployment's prefix."""
    topic, number, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None
    assert number is not None
    assert offset is not None
    return Record(
        partition=_partition(topic, prefix, number),
        offset=offset,
        key=message.key(),
        value=message.value(),
        appended_at=append_time(message.timestamp()[1] / 1000),
        headers=_headers(message),
    )


@lru_cache(4096)
def _partition(topic: str, prefix: str, number: int) -> Partition:
    return Partition(topic.removeprefix(prefix), number)


def append_time(seconds: float) -> datetime:
    """The append time of a record, from seconds since 1970. A time outside the calendar becomes 1970."""
    try:
        return datetime.fromtimestamp(max(seconds, 0), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


# For a header name that is not UTF-8, confluent-kafka returns with an exception set. A specialised call of the
# interpreter misses it and raises it later, anywhere. `map` calls it from C, which raises it here.
_get_headers = methodcaller("headers")
# Replaces headers that cannot be read. The record itself may be valid.
INVALID_HEADERS = (("invalid-headers", b"true"),)


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    try:
        pairs: Any = _get_headers(message) or ()
    except (SystemError, UnicodeError):
        return INVALID_HEADERS
    return headers_of(pairs)


def headers_of(pairs: Iterable[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    """Convert a client's headers. A header without a value gets an empty one."""
    return tuple((name, value if value is not None else b"") for name, value in pairs or ())


def commit_of(tp: TopicPartition) -> Commit | None:
    """The commit of a partition; None if there is none."""
    return Commit(tp.offset, tp.metadata or "") if tp.offset >= 0 else None


def is_stored(message: Message) -> bool:
    """Whether an acknowledged record is certain to be on its topic.

    librdkafka 2.16 takes a broker's "duplicate sequence number" for an acknowledgement, which then has no offset. After
    an error on a partition that was just made, the number may belong to another record.
    """
    offset = message.offset()
    return offset is not None and offset >= 0
