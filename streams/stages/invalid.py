"""Keep a record that nobody can use, byte for byte, with where it came from and what is wrong with it."""

from streams.ports import Outgoing, Record
from streams.topics import INVALID


def parked(record: Record, error: str) -> Outgoing:
    """The record for `session-events.invalid`: same key, value and headers, its origin and error added."""
    origin = (
        ("origin-topic", record.partition.topic.encode()),
        ("origin-partition", str(record.partition.number).encode()),
        ("origin-offset", str(record.offset).encode()),
        ("origin-appended-at", record.appended_at.isoformat().encode()),
        ("error", error[:1024].encode()),
    )
    return Outgoing(INVALID, record.key, record.value, (*record.headers, *origin))
