"""What the stages need of the world: Protocols of one to three methods."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from streams.core.account import Account, ApiKey, DeliveryFilter, DeliverySeen
from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery, ViewPosition
from streams.core.event import Event
from streams.core.ledger import Commit
from streams.core.outcome import Answer, Failure
from streams.core.request import Request
from streams.core.standing import Batch, Standing, Tally
from streams.core.webhook import Registration, Webhook

Noun = Event | Delivery | Attempt | DeadLetter | Webhook


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a topic (its name without the deployment's prefix)."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record as read; `appended_at` is the broker's time for it."""

    partition: Partition
    offset: int
    key: bytes | None
    value: bytes | None
    appended_at: datetime
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to be produced; the key decides the partition (murmur2)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class Due:
    """A webhook to be published at `version`; None in its place means that it was deleted."""

    webhook_id: str
    version: int
    webhook: Webhook | None


class Codec(Protocol):
    """Nouns as bytes and back; `decode` raises `Unreadable`."""

    def encode(self, noun: Noun) -> bytes: ...

    def decode(self, value: bytes) -> Noun: ...


class Log(Protocol):
    """Where records are produced."""

    async def produce(self, records: Sequence[Outgoing]) -> Sequence[datetime]:
        """Wait until all are acknowledged, an outage included; when each was appended."""


class Recorder(Protocol):
    """Where it is made visible what happened."""

    async def record(self, batch: Batch) -> None:
        """One transaction; a batch recorded twice changes nothing.

        Raises `Refused` for a row that the database will not take, `Unavailable` when it is away.
        """


class Outbox(Protocol):
    """The webhooks whose newest state is not on the topic yet."""

    async def compare(self, versions: Mapping[str, int]) -> Sequence[str]:
        """Make due what differs from the topic's versions (by webhook id); the ids that SQL does not know at all."""

    async def due(self, limit: int) -> Sequence[Due]: ...

    async def published(self, due: Due, appended_at: datetime) -> None:
        """This version is on the topic; a newer one stays due."""

    async def changed(self) -> None:
        """Wait until something may be due."""


class Lease(Protocol):
    """One holder at a time, for as long as it renews."""

    async def renew(self) -> bool:
        """Take or keep the lease; False when another holds it."""

    async def release(self) -> None: ...


class Accounts(Protocol):
    """The accounts and their keys."""

    async def add(self, account: Account, key: ApiKey) -> None: ...

    async def find(self, account_id: str) -> Account | None: ...

    async def list(self) -> Sequence[Account]: ...


class Webhooks(Protocol):
    """The webhooks in SQL; every change becomes due for the topic in the same transaction."""

    async def add(self, registration: Registration) -> Registration: ...

    async def list(self, account_id: str | None = None) -> Sequence[Registration]: ...

    async def change(
        self, webhook_id: str, change: Callable[[Registration], Registration | None]
    ) -> Registration | None:
        """Apply `change` to the current state and raise the version; None from it deletes.

        What is stored now (of a deleted one: what it was), or None when there is no such webhook.
        """


class Propagation(Protocol):
    """Whether a webhook's newest version is on the topic."""

    async def is_published(self, webhook_id: str) -> bool: ...


class DeliveryLog(Protocol):
    """What was recorded of deliveries, newest first."""

    async def list(self, wanted: DeliveryFilter) -> Sequence[Standing]: ...

    async def find(self, delivery_id: str) -> DeliverySeen | None: ...

    async def tally(self) -> Mapping[str, Sequence[Tally]]:
        """How many deliveries stand where, by webhook id."""


class Sealer(Protocol):
    """Encrypts what must not be read at rest."""

    def seal(self, plain: str) -> str: ...


class Report(Protocol):
    """What an operator sees: metrics by their declared names, and one wide log line for a fact."""

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def observe(self, metric: str, value: float, /, **labels: str) -> None: ...

    def tell(self, fact: str, /, **ids: object) -> None: ...


class Clock(Protocol):
    """The time now, aware and in UTC."""

    def now(self) -> datetime: ...


class Sender(Protocol):
    """One POST within the whole attempt's time; a network's trouble is a `Failure`, never an exception."""

    async def send(self, request: Request) -> Answer | Failure: ...


class Sealed(Protocol):
    """What is encrypted in a webhook, opened; raises `Unreadable` when no key of ours fits."""

    def secret(self, sealed: str) -> str: ...

    def headers(self, sealed: str | None) -> Mapping[str, str]: ...


class Subscriptions(Protocol):
    """What `fan-out` needs of the view of webhooks."""

    async def catch_up(self) -> ViewPosition:
        """Wait until every webhook whose record was appended by now is here; where the view then stands."""

    def of_account(self, account_id: str) -> Sequence[Webhook]: ...


class Directory(Protocol):
    """What `deliver` needs of the view of webhooks."""

    async def wait_for(self, seen: ViewPosition) -> None:
        """Wait until the view knows all that the writer of a delivery knew."""

    def find(self, webhook_id: str) -> Webhook | None: ...


class FeedHandler(Protocol):
    """Who is told what a feed reads; everything arrives on the event loop, in order."""

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        """These partitions are ours now, with what was committed for each."""

    def received(self, records: Sequence[Record]) -> None: ...

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        """These partitions go to another member: finish what is in hand, soon; what to commit last."""


class Feed(Protocol):
    """The records of a consumer group; `pause` drops what was fetched ahead."""

    async def run(self, handler: FeedHandler) -> None:
        """Feed `handler` until cancelled, then leave the group; what the handler raises ends the run."""

    async def commit(self, commits: Mapping[Partition, Commit]) -> None: ...

    def pause(self, partition: Partition, rewind_to: int) -> None:
        """Deliver nothing more of this partition; go on at offset `rewind_to` once it is resumed."""

    def resume(self, partition: Partition) -> None: ...
