"""Kafka behind its ports, as a fake, embedded or real, and a handler that collects records."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest
from confluent_kafka import Producer

from fakes import EventConsumer, FakeKafka, FakeRecordConsumer, FakeSubscriptions, FakeTelemetry
from real.kafka import partition_of
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.clock import SystemClock
from streams.adapters.faust.client import SESSION_SECONDS, FaustClient
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.kafka.compacted.subscriptions_reader import SubscriptionsReader
from streams.adapters.kafka.connection.config import consumer_config, producer_config, subscriptions_config
from streams.adapters.kafka.consuming.consumer_watchdog import ConsumerWatchdog, NewWatchdog
from streams.adapters.kafka.consuming.group_protocol import AUTO
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer
from streams.adapters.kafka.consuming.record_probe import RecordProbe
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.core.deliveries.schedule import parse_schedule
from streams.core.records.offset_tracker import Commit
from streams.outage import Outages
from streams.ports.delivery import Subscriptions
from streams.ports.kafka import Codec, Outgoing, Partition, Record, RecordConsumer, RecordProducer
from streams.ports.runtime import Clock
from streams.topics import SESSION_EVENTS, declare

# As `fan-out` has it by default.
GATHER_SECONDS = 0.01
PARTITIONS = 3
TOPICS = declare(parse_schedule("1s,2s"), PARTITIONS, PARTITIONS)
SECONDS = 60.0
# For members of groups: each protocol, and brokers without KIP-848.
EVERY_KAFKA = [pytest.param(name, marks=pytest.mark.real) for name in ("apache", "classic", "apache_3_7", "apache_3_9")]
CODEC = AvroCodec()
CLOCK = SystemClock()


class Cluster(Protocol):
    """A Kafka with every topic, for one test."""

    def producer(self) -> AbstractAsyncContextManager[RecordProducer]: ...

    def consumer(self, topic: str, group: str = "group") -> RecordConsumer: ...

    def subscriptions(self) -> AbstractAsyncContextManager[Subscriptions]: ...


class FakeCluster:
    """In memory, with the system clock."""

    def __init__(self) -> None:
        self._kafka = FakeKafka(CLOCK, PARTITIONS)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[RecordProducer]:
        yield self._kafka

    def consumer(self, topic: str, group: str = "group") -> RecordConsumer:
        return FakeRecordConsumer(self._kafka, group, [topic])

    @asynccontextmanager
    async def subscriptions(self) -> AsyncIterator[Subscriptions]:
        yield FakeSubscriptions(self._kafka, CODEC)


@dataclass(frozen=True)
class KafkaCluster:
    """A broker with topics under a unique prefix."""

    properties: Mapping[str, str]
    prefix: str
    session_seconds: float = SESSION_SECONDS
    embedded: EmbeddedBroker | None = None
    protocol: str = AUTO

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[RecordProducer]:
        telemetry = FakeTelemetry()
        producer = KafkaRecordProducer(producer_config(self.properties), self.prefix, telemetry, Outages(telemetry))
        try:
            yield producer
        finally:
            await producer.close()

    def consumer(self, topic: str, group: str = "group", watchdog: NewWatchdog | None = None) -> KafkaRecordConsumer:
        telemetry, config = FakeTelemetry(), consumer_config(self.properties, self.prefix + group)
        outages = Outages(telemetry)
        return KafkaRecordConsumer(
            config, [topic], self.prefix, telemetry, outages, watchdog=watchdog, protocol=self.protocol
        )

    @asynccontextmanager
    async def subscriptions(self) -> AsyncIterator[Subscriptions]:
        reader = self.reader()
        async with running(reader.run()):
            yield reader

    def reader(
        self,
        codec: Codec = CODEC,
        clock: Clock = CLOCK,
        opens_check: Callable[[str], bool] = lambda ciphertext: True,
        watchdog: NewWatchdog | None = None,
    ) -> SubscriptionsReader:
        telemetry, config = FakeTelemetry(), subscriptions_config(self.properties)
        outages = Outages(telemetry)
        return SubscriptionsReader(config, self.prefix, codec, telemetry, clock, outages, opens_check, watchdog)

    def faust(self, watchdog: NewWatchdog | None = None) -> FaustClient:
        telemetry, session = FakeTelemetry(), self.session_seconds
        return FaustClient(
            self.properties, "fan-out", SESSION_EVENTS, self.prefix, None, telemetry, session, watchdog, GATHER_SECONDS
        )

    def event_consumer(self, client: str, watchdog: NewWatchdog | None = None, **seconds: float) -> EventConsumer:
        by_faust = client == "faust"
        consumer = self.faust(watchdog) if by_faust else self.consumer(SESSION_EVENTS, "fan-out", watchdog)
        return EventConsumer(consumer, None, **seconds)

    def watchdog(self, seconds: float, telemetry: FakeTelemetry) -> NewWatchdog:
        """Makes watchdogs that end a consumer after a standstill of `seconds`."""
        probe = RecordProbe(self.properties, self.prefix)
        return lambda name, positions: ConsumerWatchdog(name, positions, probe, telemetry, seconds)


def cluster_on(bootstrap: str, prefix: str = "", protocol: str = AUTO) -> KafkaCluster:
    """The broker with every topic."""
    properties = {"bootstrap.servers": bootstrap}
    admin = TopicsAdmin(properties, prefix)
    admin.apply(admin.plan(TOPICS))
    return KafkaCluster(properties, prefix, protocol=protocol)


@dataclass
class RecordCollector:
    """Collects what a consumer reads. On revocation it returns the given commits."""

    records: list[Record] = field(default_factory=list)
    committed: dict[Partition, Commit | None] = field(default_factory=dict)
    gone: list[Partition] = field(default_factory=list)
    final_commits: dict[Partition, Commit] = field(default_factory=dict)

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self.committed.update(partitions)

    def on_received(self, records: Sequence[Record]) -> None:
        self.records += records

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self.gone += partitions
        return {partition: self.final_commits[partition] for partition in partitions if partition in self.final_commits}

    def offsets(self, partition: Partition) -> list[int]:
        return [record.offset for record in self.records if record.partition == partition]

    def partition_of(self, key: bytes) -> Partition:
        """The partition of this key's records."""
        (partition,) = {record.partition for record in self.records if record.key == key}
        return partition


async def until(condition: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Wait until a condition holds. Raises TimeoutError after `seconds`."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def produce_backlog(cluster: KafkaCluster, count: int) -> None:
    """Produce events in large batches. Small ones never fill a buffer."""
    producer = Producer(producer_config(cluster.properties, linger_ms=1000))
    for event in numbered(SESSION_EVENTS, count):
        producer.produce(cluster.prefix + event.topic, event.value, event.key)
    assert producer.flush(30) == 0


def assert_once_and_in_order(records: Sequence[Record], count: int) -> None:
    """Each of `count` numbered records is there once, those of a partition in their order."""
    assert sorted(int(record.value or b"") for record in records) == list(range(count))
    for partition in {record.partition for record in records}:
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == list(range(len(offsets)))


# One key for each partition.
KEYS = [
    next(key for key in (b"%d" % n for n in range(100)) if partition_of(key, PARTITIONS) == partition)
    for partition in range(PARTITIONS)
]


def numbered(topic: str, count: int, key: bytes | None = None) -> list[Outgoing]:
    return [Outgoing(topic, key or b"k%d" % number, b"%d" % number) for number in range(count)]
