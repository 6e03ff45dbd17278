"""What librdkafka hands over, as nouns of ours."""

import logging
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from confluent_kafka import Message, TopicPartition

from streams.core.ledger import Commit
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
        appended_at=datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC),
        headers=_headers(message),
    )


@lru_cache(4096)
def _partition(topic: str, prefix: str, number: int) -> Partition:
    return Partition(topic.removeprefix(prefix), number)


def _headers(message: Message) -> tuple[tuple[str, bytes], ...]:
    pairs: Any = message.headers() or ()
    return tuple((name, value if value is not None else b"") for name, value in pairs)


def commit_of(tp: TopicPartition) -> Commit | None:
    """What was committed for a partition, None when nothing ever was."""
    return Commit(tp.offset, tp.metadata or "") if tp.offset >= 0 else None
