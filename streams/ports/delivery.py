"""What moves records: broker, database, endpoints, clock, operator."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from streams.core.delivery import SubscriptionsPosition
from streams.core.delivery_state import Batch, EventKey
from streams.core.held import Held, Progress
from streams.core.offset_tracker import Commit
from streams.core.outcome import Failure, Response
from streams.core.request import Request
from streams.core.webhook import Webhook
from streams.ports.kafka import Due, Outgoing, Partition, Record, RecordValue


class Codec(Protocol):
    """Nouns as bytes and back; `decode` raises `InvalidRecord`."""

    def encode(self, value: RecordValue) -> bytes: ...

    def decode(self, value: bytes) -> RecordValue: ...


class RecordProducer(Protocol):
    """Where records are produced."""

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Wait until all are acknowledged, an outage included; when each was appended.

        Raises `RecordsRefused` when Kafka never takes some of them, once all others are acknowledged.
        """


class Recorder(Protocol):
    """Where it is made visible what happened."""

    async def record(self, batch: Batch) -> Collection[EventKey]:
        """One transaction; a batch recorded twice changes nothing. The events that keep another body than the batch's.

        Raises `Refused` for a row that the database will not take, `Unavailable` when it is away.
        """


class Outbox(Protocol):
    """The webhooks whose newest state is not on the topic yet."""

    async def compare(self, versions: Mapping[str, int], tombstones: Mapping[str, int] | None) -> Sequence[str]:
        """Make due what differs from the topic's versions (by webhook id); the ids that SQL does not know at all.

        What SQL has in no newer version than the topic (after a restore of SQL) becomes due in one that is newer than
        the topic's, its tombstone's and the clock, so that nobody who remembers one of these takes it for old. Of a
        topic that is new (no `tombstones`) nobody remembers anything.
        """

    async def owe(self, newest: Mapping[str, int]) -> None:
        """Make these due again, in a version that is not below the one that the topic has (by webhook id).

        Those that SQL does not know are passed over.
        """

    async def due(self, limit: int) -> Sequence[Due]: ...

    async def published(self, appended: Sequence[tuple[Due, datetime]]) -> None:
        """These versions are on the topic, and since when; a newer one stays due."""

    async def changed(self) -> None:
        """Wait until something may be due, or a moment; may raise `Unavailable`."""


class HeldDeliveries(Protocol):
    """What is held although its webhook is active or deleted, and its newest version is on the topic."""

    async def webhooks(self) -> Mapping[str, int]:
        """The ids of these webhooks, with how many deliveries were sent on to each and are not yet attempted."""

    async def oldest(self, webhook_id: str, limit: int) -> Sequence[Held]: ...

    async def progress(self, delivery_ids: Sequence[str]) -> Sequence[Progress]: ...


class Lease(Protocol):
    """One holder at a time, for as long as it renews."""

    async def renew(self) -> bool:
        """Take or keep the lease; False when another holds it."""

    async def release(self) -> None: ...


class Telemetry(Protocol):
    """What an operator sees: metrics by their declared names, and one wide log line for a fact."""

    @property
    def is_debug_enabled(self) -> bool:
        """Whether what is told is written at all; who tells of every record asks first."""

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def observe(self, metric: str, value: float, /) -> None: ...

    def info(self, event: str, /, **ids: object) -> None: ...

    def debug(self, event: str, /, **ids: object) -> None:
        """What one looks for only when it is missed."""

    def warning(self, event: str, /, **ids: object) -> None:
        """What heals by itself, but somebody should know."""

    def error(self, event: str, /, **ids: object) -> None:
        """What needs a person."""


class Clock(Protocol):
    """The time now, aware and in UTC."""

    def now(self) -> datetime: ...


class Sender(Protocol):
    """One POST within the whole attempt's time; a network's trouble is a `Failure`, never an exception."""

    async def send(self, request: Request) -> Response | Failure:
        """Raises `Unavailable` when this machine is short of something, which says nothing of the endpoint."""


class Subscriptions(Protocol):
    """The webhooks, as the compacted topic `subscriptions` has them."""

    async def catch_up(self) -> SubscriptionsPosition:
        """Wait until every record that is on the topic now is read. Returns the position reached."""

    async def wait_for(self, seen: SubscriptionsPosition) -> None:
        """Wait until this position is read."""

    def of_account(self, account_id: str) -> Sequence[Webhook]: ...

    def find(self, webhook_id: str) -> Webhook | None: ...


class ReplayLookup(Protocol):
    """Which generation of a delivery is the newest."""

    async def newest(self, delivery_id: str) -> int | None:
        """None when that is not known: the delivery is new, or the database is away."""


class RecordHandler(Protocol):
    """Who is told what a feed reads; everything arrives on the event loop, in order."""

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        """These partitions are ours now, with what was committed for each."""

    def received(self, records: Sequence[Record]) -> None: ...

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        """These partitions go to another member: finish what is in hand, soon; what to commit last."""


class RecordConsumer(Protocol):
    """The records of a consumer group, a list at a time: the next one is read when `received` has returned."""

    async def run(self, handler: RecordHandler) -> None:
        """Feed `handler` until cancelled, then leave the group; what the handler raises ends the run."""

    async def commit(self, commits: Mapping[Partition, Commit]) -> None: ...

    def pause(self, partition: Partition, rewind_to: int | None = None) -> None:
        """Read no further in this partition; once resumed, go on at `rewind_to`, or behind what was received."""

    def resume(self, partition: Partition) -> None: ...
