"""A consumer that stands still ends its process; one that has nothing to read does not."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from conftest import Broker
from contract.clusters import (
    PARTITIONS,
    SECONDS,
    KafkaCluster,
    RecordCollector,
    cluster_on,
    numbered,
    running,
    until,
)
from fakes import EventConsumer, FakeClock, FakeHandler, FakeKafka, FakeTelemetry
from real.kafka import Kafka
from streams.adapters.faust import patches
from streams.adapters.faust.client import FaustClient
from streams.adapters.kafka.compacted import compacted_topic_thread
from streams.adapters.kafka.consuming.consumer_watchdog import ConsumerStandsStill
from streams.adapters.kafka.consuming.group_protocol import AUTO, CLASSIC
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer
from streams.adapters.kafka.consuming.record_probe import RecordProbe
from streams.core.deliveries.schedule import Tier
from streams.core.errors import Unavailable
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.core.records.offset_tracker import Commit
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition, Record
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.topics import ATTEMPTS, DELIVERIES, SESSION_EVENTS, SUBSCRIPTIONS, retry_topic

pytestmark = pytest.mark.slow

# A standstill, and long enough that looks at a quiet consumer would have found one.
STANDSTILL_SECONDS, LOOKS = 0.6, 6
# The same for a consumer that reads at first, which takes its time on a busy machine.
READING_SECONDS = 2.0
# Where records have to be read in this time, also on a busy machine.
PATIENT_SECONDS, PATIENT_LOOKS = 5.0, 4
KEY = b"21"
EVENT = "consumer_stands_still"


class LookCounter(FakeTelemetry):
    """Counts how often the watchdog looked, and keeps the longest standstill."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.longest = 0.0

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        if metric == "consumer_standstill_seconds":
            self.looks += 1
            self.longest = max(self.longest, value)

    async def look_again(self, looks: int = LOOKS) -> None:
        """Wait for a number of looks. What was found before them does not count: a first fetch takes its time."""
        before = self.looks
        await until(lambda: self.looks >= before + 2)
        before, self.longest = self.looks, 0.0
        await until(lambda: self.looks >= before + looks)


class Owner(RecordCollector):
    """Knows the partitions that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.owned: set[Partition] = set()

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        super().on_assigned(partitions)
        self.owned.update(partitions)

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self.owned.difference_update(partitions)
        return await super().on_revoked(partitions, is_lost=is_lost)


class WatchedConsumer:
    """A member of a group under a watchdog."""

    def __init__(self, cluster: KafkaCluster, seconds: float = STANDSTILL_SECONDS) -> None:
        self.telemetry = LookCounter()
        self.consumer = cluster.consumer(ATTEMPTS, watchdog=cluster.watchdog(seconds, self.telemetry))
        self.handler = Owner()

    async def run(self) -> None:
        await self.consumer.run(self.handler)

    def stop_fetching(self) -> None:
        stop_fetching(self.consumer)

    async def watched(self, looks: int = LOOKS) -> None:
        """Wait until the watchdog has looked often enough to find a standstill."""
        seen = self.telemetry.looks
        await until(lambda: self.telemetry.looks >= seen + looks or self.telemetry.logged_count(EVENT) > 0)


@pytest.fixture(params=[AUTO, CLASSIC])
def kafka4(request: pytest.FixtureRequest, kafka: Broker, topic_prefix: str) -> KafkaCluster:
    """Kafka 4, with groups of either protocol."""
    return cluster_on(kafka.bootstrap, topic_prefix, request.param)


def stop_fetching(consumer: KafkaRecordConsumer) -> None:
    """Stop the fetches of the real client, without the knowledge of our code. What is produced after it is not read."""
    is_paused = threading.Event()

    def pause(client: Consumer) -> None:
        client.pause(client.assignment())
        is_paused.set()

    consumer._send_command(pause)
    assert is_paused.wait(SECONDS)


def lose_partitions(consumer: KafkaRecordConsumer) -> None:
    """What the client does when the broker has taken the partitions of a member that was away; it gets none again."""
    stop_fetching(consumer)
    thread = consumer._thread
    assert thread
    consumer._send_command(lambda client: thread._on_revoke(client, client.assignment(), is_lost=True))


@asynccontextmanager
async def watched(cluster: KafkaCluster, seconds: float = STANDSTILL_SECONDS) -> AsyncIterator[WatchedConsumer]:
    """A member that has its partitions. At the end it must still run."""
    member = WatchedConsumer(cluster, seconds)
    task = asyncio.create_task(member.run())
    try:
        await until(lambda: bool(member.handler.committed) or task.done())
        yield member
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_member_that_fetches_no_more_ends(kafka_cluster: KafkaCluster) -> None:
    member = WatchedConsumer(kafka_cluster, READING_SECONDS)
    serving = asyncio.create_task(member.run())
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 10, key=KEY))
        await until(lambda: len(member.handler.records) == 10)
        member.stop_fetching()
        await member.watched()
        assert not serving.done()
        await producer.produce(numbered(ATTEMPTS, 1, key=KEY))
    with pytest.raises(ConsumerStandsStill, match=r"offset 10 or later"):
        await asyncio.wait_for(serving, SECONDS)
    assert member.telemetry.logged_count("consumer_stands_still") == 1
    # It left its group in order, so that the next process goes on at once.
    assert len(member.handler.gone) == len(member.handler.committed)


async def test_a_member_that_never_gets_back_what_it_lost_ends(kafka4: KafkaCluster) -> None:
    member = WatchedConsumer(kafka4)
    serving = asyncio.create_task(member.run())
    await until(lambda: bool(member.handler.committed))
    assert member.consumer.readiness_problems() == []
    lose_partitions(member.consumer)
    await until(lambda: not member.handler.owned)
    [problem] = member.consumer.readiness_problems()
    assert "lost its partitions" in problem
    await member.watched()
    assert not serving.done()
    async with kafka4.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 1, key=KEY))
    with pytest.raises(ConsumerStandsStill):
        await asyncio.wait_for(serving, SECONDS)


async def test_a_member_that_never_read_ends(kafka4: KafkaCluster) -> None:
    member = WatchedConsumer(kafka4)
    serving = asyncio.create_task(member.run())
    await until(lambda: bool(member.handler.committed))
    member.stop_fetching()
    await member.watched()
    async with kafka4.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 1, key=KEY))
    with pytest.raises(ConsumerStandsStill):
        await asyncio.wait_for(serving, SECONDS)


async def test_a_steady_trickle_is_no_standstill(kafka4: KafkaCluster) -> None:
    async with watched(kafka4, PATIENT_SECONDS) as member, kafka4.producer() as producer:
        while member.telemetry.looks < PATIENT_LOOKS:
            await producer.produce(numbered(ATTEMPTS, 1, key=KEY))
            await asyncio.sleep(0.01)


async def test_a_paused_partition_is_no_standstill(kafka4: KafkaCluster) -> None:
    async with watched(kafka4) as member, kafka4.producer() as producer:
        for partition in member.handler.committed:
            member.consumer.pause(partition, 0)
        await producer.produce(numbered(ATTEMPTS, 30))
        await member.watched()
        for partition in member.handler.committed:
            member.consumer.resume(partition)
        await until(lambda: len(member.handler.records) == 30)
        await member.watched()


async def test_a_retry_that_is_not_due_is_no_standstill(kafka4: KafkaCluster) -> None:
    telemetry, handled = LookCounter(), list[Record]()
    tier = retry_topic(Tier("1s"))
    consumer = kafka4.consumer(tier, watchdog=kafka4.watchdog(READING_SECONDS, telemetry))

    async def handle(record: Record) -> None:
        handled.append(record)

    # By this clock nothing ever falls due.
    clock, handler = FakeClock(), FakeHandler(handle)
    stage = PartitionConsumer(consumer, handler, FakeKafka(clock), clock, telemetry, Outages(telemetry))
    async with kafka4.producer() as producer, running(stage.run()):
        await producer.produce(numbered(tier, 200, key=KEY))
        await telemetry.look_again(2 * LOOKS)
    assert not handled
    assert telemetry.longest == 0


async def test_a_partition_of_a_newer_release_is_no_standstill(kafka4: KafkaCluster) -> None:
    telemetry = LookCounter()
    consumer = kafka4.consumer(ATTEMPTS, watchdog=kafka4.watchdog(READING_SECONDS, telemetry))

    async def handle(record: Record) -> None: ...

    clock, handler = FakeClock(), FakeHandler(handle, is_newer=True)
    stage = PartitionConsumer(consumer, handler, FakeKafka(clock), clock, telemetry, Outages(telemetry))
    async with kafka4.producer() as producer, running(stage.run()):
        await producer.produce(numbered(ATTEMPTS, 200, key=KEY))
        await until(lambda: bool(stage.readiness_problems()))
        await telemetry.look_again(2 * LOOKS)
        assert stage.readiness_problems()
    assert telemetry.longest == 0


async def test_an_outage_is_no_standstill(own_kafka: Kafka) -> None:
    cluster = cluster_on(own_kafka.bootstrap)
    async with watched(cluster, PATIENT_SECONDS) as member, cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 30))
        await until(lambda: len(member.handler.records) == 30)
        await asyncio.to_thread(own_kafka.kill)
        await member.watched(PATIENT_LOOKS)
        await asyncio.to_thread(own_kafka.start)
        await producer.produce(numbered(ATTEMPTS, 30))
        await until(lambda: len(member.handler.records) == 60)


async def test_a_transaction_marker_is_no_record(kafka4: KafkaCluster) -> None:
    async with watched(kafka4, PATIENT_SECONDS) as member:
        committed, aborted = transactional(kafka4, "committed"), transactional(kafka4, "aborted")
        committed.begin_transaction()
        committed.produce(kafka4.prefix + ATTEMPTS, b"1", KEY)
        committed.commit_transaction()
        await until(lambda: len(member.handler.records) == 1)
        aborted.begin_transaction()
        aborted.produce(kafka4.prefix + ATTEMPTS, b"2", KEY)
        aborted.flush()
        aborted.abort_transaction()
        await member.watched(PATIENT_LOOKS)
    assert len(member.handler.records) == 1


async def test_deleted_records_are_no_records(kafka4: KafkaCluster) -> None:
    async with kafka4.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 30))
    admin = AdminClient(dict(kafka4.properties))
    names = [TopicPartition(kafka4.prefix + ATTEMPTS, number, -1) for number in range(3)]
    for deleted in admin.delete_records(names).values():
        deleted.result(SECONDS)
    async with watched(kafka4) as member:
        await member.watched()
    assert member.telemetry.longest == 0


async def test_a_probe_finds_records_behind_a_hole(kafka4: KafkaCluster) -> None:
    producer = transactional(kafka4, "hole")
    for end in (producer.abort_transaction, producer.commit_transaction):
        producer.begin_transaction()
        producer.produce(kafka4.prefix + DELIVERIES, b"x", partition=1)
        producer.flush()
        end()
    probe = RecordProbe(kafka4.properties, kafka4.prefix)
    places = {number: Partition(DELIVERIES, number) for number in range(3)}
    # Right after a topic was made, a broker may not know its leader yet.
    await until_known(probe, places[0])
    # Offsets: 0 aborted, 1 its marker, 2 committed, 3 its marker.
    assert await probe.find_readable({places[0]: 0, places[1]: 0, places[2]: 0}) == {places[1]}
    assert await probe.find_readable({places[1]: 2}) == {places[1]}
    assert await probe.find_readable({places[1]: 3}) == set()


async def until_known(probe: RecordProbe, partition: Partition) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            with suppress(Unavailable):
                await probe.find_readable({partition: 0})
                return
            await asyncio.sleep(0.05)


async def test_a_rebalance_is_no_standstill(kafka4: KafkaCluster) -> None:
    """Nothing is committed, so each assignment has records to read. Together they last longer than a standstill."""
    async with kafka4.producer() as producer, watched(kafka4, PATIENT_SECONDS) as member:
        await producer.produce(numbered(ATTEMPTS, 30))
        while member.telemetry.looks < PATIENT_LOOKS:
            async with running(kafka4.consumer(ATTEMPTS).run(RecordCollector())):
                await until(lambda: len(member.handler.owned) < PARTITIONS)
            await until(lambda: len(member.handler.owned) == PARTITIONS)


def transactional(cluster: KafkaCluster, name: str) -> Producer:
    producer = Producer({**cluster.properties, "transactional.id": cluster.prefix + name})
    producer.init_transactions(SECONDS)
    return producer


# -- fan-out ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=["faust", "librdkafka"])
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_an_event_consumer_that_fetches_no_more_ends(kafka4: KafkaCluster, client: str) -> None:
    telemetry, seen = LookCounter(), list[Record]()
    consumer = kafka4.event_consumer(client, kafka4.watchdog(READING_SECONDS, telemetry))

    async def handle(records: Sequence[Record]) -> None:
        seen.extend(records)

    serving = asyncio.create_task(consumer.run(handle))
    async with kafka4.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 30))
        await until(lambda: len(seen) == 30)
        await telemetry.look_again()
        assert telemetry.longest == 0
        stop_events(consumer)
        await producer.produce(numbered(SESSION_EVENTS, 30))
    await asyncio.wait([serving], timeout=SECONDS)
    # Which of these it is tells why it goes on: it reads, it does not look, or it does not close.
    assert serving.done(), (len(seen), telemetry.looks, telemetry.longest, telemetry.logged)
    assert isinstance(serving.exception(), ConsumerStandsStill)


def stop_events(consumer: EventConsumer) -> None:
    """End the fetches of the real client, as a defect of it would."""
    client = consumer.client
    if isinstance(client, KafkaRecordConsumer):
        stop_fetching(client)
        return
    assert isinstance(client, FaustClient)
    fetcher = patches.aiokafka_consumer(client._app)._fetcher
    fetcher._fetch_task.get_loop().call_soon_threadsafe(fetcher._fetch_task.cancel)


async def test_a_slow_batch_is_no_standstill(kafka4: KafkaCluster, client: str) -> None:
    telemetry, seen, released = LookCounter(), list[Record](), asyncio.Event()
    consumer = kafka4.event_consumer(client, kafka4.watchdog(PATIENT_SECONDS, telemetry))

    async def handle(records: Sequence[Record]) -> None:
        seen.extend(records)
        await released.wait()

    async with kafka4.producer() as producer, running(consumer.run(handle)):
        await producer.produce(numbered(SESSION_EVENTS, 1, key=KEY))
        await until(lambda: len(seen) == 1)
        await producer.produce(numbered(SESSION_EVENTS, 100))
        await until(lambda: telemetry.looks >= PATIENT_LOOKS)
        released.set()
        await until(lambda: len(seen) == 101)
    assert telemetry.longest < PATIENT_SECONDS


# -- the subscriptions table -----------------------------------------------------------------------------------


async def test_a_subscriptions_reader_that_reads_no_more_ends(
    kafka4: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopping, stopped = threading.Event(), threading.Event()

    class StoppableConsumer(Consumer):
        def poll(self, *arguments: Any) -> Any:
            if stopping.is_set():
                self.pause(self.assignment())
                stopped.set()
            return super().poll(*arguments)

    monkeypatch.setattr(compacted_topic_thread, "Consumer", StoppableConsumer)
    telemetry = LookCounter()
    reader = kafka4.reader(watchdog=kafka4.watchdog(READING_SECONDS, telemetry))
    sentinel = Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 0).encode())
    async with kafka4.producer() as producer:
        await producer.produce([sentinel])
        serving = asyncio.create_task(reader.run())
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        await telemetry.look_again()
        assert telemetry.longest == 0
        stopping.set()
        await until(stopped.is_set)
        await producer.produce([sentinel])
    with pytest.raises(ConsumerStandsStill, match=SUBSCRIPTIONS):
        await asyncio.wait_for(serving, SECONDS)
