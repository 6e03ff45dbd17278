"""Records: how they are read, produced and encoded."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.backfill import OffsetRange, Period
from streams.core.deliveries.backlog import GroupOffsets
from streams.core.deliveries.delivery import Delivery
from streams.core.events.event import Event
from streams.core.records.offset_tracker import Commit
from streams.core.webhooks.webhook import Webhook

RecordValue = Event | Delivery | Attempt | DeadLetter | Webhook


# Tuples: several of these are made for each delivery, and a dataclass takes longer to make and to hash.
class Partition(NamedTuple):
    """One partition of a topic; `topic` is without the deployment's prefix."""

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
        """Topic, partition and offset, as fields of a log line."""
        return {"topic": self.partition.topic, "partition": self.partition.number, "offset": self.offset}


class Outgoing(NamedTuple):
    """One record to produce; its key decides the partition (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()

    def __repr__(self) -> str:
        return f"Outgoing({self.topic}, {self.key!r})"


class Codec(Protocol):
    """Encodes the values of records. `decode` raises `InvalidRecord`."""

    def encode(self, value: RecordValue) -> bytes: ...

    def decode(self, value: bytes) -> RecordValue: ...


class EventCodec(Codec, Protocol):
    """Encodes and decodes events."""

    def account_of(self, value: bytes) -> str:
        """The account of an event, without reading the rest; "" if the value does not contain it."""


class HistoryPortion(NamedTuple):
    """Records of a topic, and the next offset of each partition that was read."""

    records: Sequence[Record]
    positions: Mapping[int, int]


class EventHistory(Protocol):
    """Past records of `session-events`, read without a consumer group. Both methods raise `Unavailable`."""

    async def period(self, since: datetime, until: datetime) -> Period:
        """The offsets of the records appended in this period, and perhaps of a few others."""

    async def read(self, ranges: Sequence[OffsetRange], limit: int) -> HistoryPortion:
        """Read up to `limit` records of these offsets, in the order of each partition; fewer if they are large."""


class RecordProducer(Protocol):
    """Produces records."""

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Produce records. Waits until all are acknowledged, through an outage too. Returns their append times.

        Raises `RecordsRefused` if Kafka refuses some of them permanently, once all others are acknowledged.
        """


class RecordHandler(Protocol):
    """Handles the records of a consumer. All calls come on the event loop, in order."""

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        """Called when partitions are assigned, each with its last commit."""

    def on_received(self, records: Sequence[Record]) -> None:
        """Called when records are read. No records means that no more can be read at once."""

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        """Called when partitions go to another member: finish soon. Returns what to commit last."""


class EventClient(Protocol):
    """A member of a consumer group. It reads the next records when `on_received` has returned."""

    async def run(self, handler: RecordHandler) -> None:
        """Read until cancelled, then leave the group. An exception of the handler ends the run."""

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        """Commit offsets. Raises `Unavailable`."""

    def pause(self, partition: Partition) -> None:
        """Stop reading this partition. After `resume`, reading continues after the received records."""

    def resume(self, partition: Partition) -> None: ...

    def readiness_problems(self) -> list[str]:
        """Why nothing can be read at the moment."""


class RecordConsumer(EventClient, Protocol):
    """An `EventClient` that can also read again, and leave its group before it ends."""

    def leave(self) -> None:
        """Give all partitions back. `on_revoked` follows, and `run` goes on without any until it is cancelled."""

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None:
        """Stop reading this partition. `resume` continues at `rewind_to`, or after the last received record."""


class GroupLags(Protocol):
    """The committed offsets of the stages, by partition."""

    async def offsets(self) -> Mapping[str, Mapping[Partition, GroupOffsets]]:
        """The offsets by consumer group, which is named after its stage. Raises `Unavailable`."""
