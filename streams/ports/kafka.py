"""Records as they are read and written."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.event import Event
from streams.core.webhook import Webhook

RecordValue = Event | Delivery | Attempt | DeadLetter | Webhook


# Tuples, for there are several of these to each delivery, and they are made and hashed sooner than dataclasses.
class Partition(NamedTuple):
    """One partition of a topic (its name without the deployment's prefix)."""

    topic: str
    number: int


class Record(NamedTuple):
    """One Kafka record as read; `appended_at` is the broker's time for it."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: datetime
    headers: Sequence[tuple[str, bytes]] = ()

    def __repr__(self) -> str:
        return f"Record({self.partition.topic}, {self.partition.number}, {self.offset})"

    @property
    def place(self) -> dict[str, str | int]:
        """Where it is, for a log line."""
        return {"topic": self.partition.topic, "partition": self.partition.number, "offset": self.offset}


class Outgoing(NamedTuple):
    """One record to be produced; the key decides the partition (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def __repr__(self) -> str:
        return f"Outgoing({self.topic}, {self.key!r})"


@dataclass(frozen=True, slots=True)
class Due:
    """A webhook to be published at `version`; None in its place means that it was deleted."""

    webhook_id: str
    version: int
    webhook: Webhook | None
