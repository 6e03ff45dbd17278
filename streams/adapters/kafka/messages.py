"""What librdkafka hands over, as nouns of ours."""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from operator import methodcaller
from typing import Any

from confluent_kafka import Message, TopicPartition

from streams.core.offset_tracker import Commit
from streams.ports import Partition, Record

# librdkafka would write to standard error in a form of its own.
LIBRDKAFKA = logging.getLogger("librdkafka")


def to_record(message: Message, prefix: str) -> Record:
    """A librdkafka message as a record of ours."""
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
    """When a record was appended; a time that no calendar has, which only a producer's clock can tell, is 1970."""
    try:
        return datetime.fromtimestamp(max(seconds, 0), UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


# Of a name that is not UTF-8 the client makes no text, and returns all the same with an error set. The interpreter's
# quick calls overlook that, and raise it wherever they are next; a call from C, as this one, raises it here.
_HEADERS_OF = methodcaller("headers")
# In the place of headers that cannot be read; the record itself may be as good as any.
UNREADABLE_HEADERS = (("unreadable-headers", b"true"),)


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    try:
        pairs: Any = _HEADERS_OF(message) or ()
    except (SystemError, UnicodeError):
        return UNREADABLE_HEADERS
    return headers_of(pairs)


def headers_of(pairs: Iterable[tuple[str, bytes | None]] | None) -> tuple[tuple[str, bytes], ...]:
    """A client's headers as ours: a header without a value has an empty one."""
    return tuple((name, value if value is not None else b"") for name, value in pairs or ())


def commit_of(tp: TopicPartition) -> Commit | None:
    """What was committed for a partition, None when nothing ever was."""
    return Commit(tp.offset, tp.metadata or "") if tp.offset >= 0 else None
