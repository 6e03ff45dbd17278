"""What the stages rely on in Kafka, on the embedded broker and on Apache Kafka alike."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer

from builders import webhook
from fakes import FakeReport, until
from streams.adapters.avro import AvroCodec
from streams.adapters.clock import SystemClock
from streams.adapters.faust_app import FaustStage
from streams.adapters.kafka.config import consumer_config, producer_config, view_config
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.kafka.feed import KafkaFeed
from streams.adapters.kafka.log import KafkaLog
from streams.adapters.kafka.topics_admin import TopicsAdmin
from streams.adapters.kafka.view_reader import ViewReader
from streams.core.ledger import Commit
from streams.core.schedule import parse_schedule
from streams.core.view import SENTINEL_KEY, VERSION_HEADER, Sentinel
from streams.ports import Outgoing, Partition, Record
from streams.stages.intake import Intake
from streams.topics import ATTEMPTS, SESSION_EVENTS, SUBSCRIPTIONS, declare

TOPICS = declare(parse_schedule("1s,2s"), 3, 3)
SECONDS = 60.0


@dataclass(frozen=True)
class Cluster:
    """A broker with every topic made, under a prefix of this test's own."""

    properties: Mapping[str, str]
    prefix: str

    @asynccontextmanager
    async def log(self) -> AsyncIterator[KafkaLog]:
        log = KafkaLog(producer_config(self.properties), self.prefix, FakeReport())
        try:
            yield log
        finally:
            await log.close()

    def feed(self, topic: str, group: str = "group") -> KafkaFeed:
        return KafkaFeed(consumer_config(self.properties, self.prefix + group), [topic], self.prefix, FakeReport())

    def faust(self) -> FaustStage:
        return FaustStage(self.properties, "fan-out", SESSION_EVENTS, self.prefix, None)


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.real)])
def cluster(request: pytest.FixtureRequest, topic_prefix: str) -> Iterator[Cluster]:
    if request.param == "embedded":
        with EmbeddedBroker(TOPICS, topic_prefix) as broker:
            properties = {"bootstrap.servers": broker.bootstrap, "fetch.wait.max.ms": "20"}
            yield Cluster(properties, topic_prefix)
        return
    properties = {"bootstrap.servers": request.getfixturevalue("kafka").bootstrap}
    admin = TopicsAdmin(properties, topic_prefix)
    admin.apply(admin.plan(TOPICS))
    yield Cluster(properties, topic_prefix)


@dataclass
class Handler:
    """Remembers what a feed tells; commits on revocation what it was told to."""

    records: list[Record] = field(default_factory=list)
    committed: dict[Partition, Commit | None] = field(default_factory=dict)
    gone: list[Partition] = field(default_factory=list)
    last_words: dict[Partition, Commit] = field(default_factory=dict)

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self.committed.update(partitions)

    def received(self, records: Sequence[Record]) -> None:
        self.records += records

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        self.gone += partitions
        return {partition: self.last_words[partition] for partition in partitions if partition in self.last_words}

    def offsets(self, partition: Partition) -> list[int]:
        return [record.offset for record in self.records if record.partition == partition]


class Pausing(Handler):
    """Pauses one partition at an offset, once, as `Intake` does at a record that is not due."""

    def __init__(self, feed: KafkaFeed, partition: Partition, offset: int) -> None:
        super().__init__()
        self.feed, self.partition, self.offset = feed, partition, offset
        self.is_paused = self.was_paused = False
        self.told_while_paused = 0

    def received(self, records: Sequence[Record]) -> None:
        self.told_while_paused += self.is_paused and any(record.partition == self.partition for record in records)
        for record in records:
            if (record.partition, record.offset) == (self.partition, self.offset) and not self.was_paused:
                self.is_paused = self.was_paused = True
                self.feed.pause(self.partition, self.offset)
            if not (self.is_paused and record.partition == self.partition):
                self.records.append(record)

    def resume(self) -> None:
        self.is_paused = False
        self.feed.resume(self.partition)


@asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def numbered(topic: str, count: int, key: bytes | None = None) -> list[Outgoing]:
    return [Outgoing(topic, key or b"k%d" % number, b"%d" % number) for number in range(count)]


# Apache Kafka's own vectors of its partitioner (`UtilsTest.testMurmur2`).
KNOWN_HASHES = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}


def partition_of(key: bytes) -> Partition:
    return Partition(ATTEMPTS, (KNOWN_HASHES[key] & 0x7FFFFFFF) % 3)


# -- log and feed ----------------------------------------------------------------------------------------------


async def test_what_is_acknowledged_is_read_in_order_with_the_time_it_was_appended(cluster: Cluster) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    async with cluster.log() as log:
        appended = await log.produce(numbered(ATTEMPTS, 300))
    assert len(appended) == 300
    assert all(before < at < before + timedelta(seconds=60) for at in appended)
    handler = Handler()
    async with running(cluster.feed(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 300, SECONDS)
    assert {int(record.value or b"") for record in handler.records} == set(range(300))
    for number in range(3):
        offsets = handler.offsets(Partition(ATTEMPTS, number))
        assert offsets == list(range(len(offsets)))


async def test_a_key_goes_to_the_partition_where_every_kafka_client_puts_it(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce([Outgoing(ATTEMPTS, key, b"") for key in KNOWN_HASHES])
    handler = Handler()
    async with running(cluster.feed(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == len(KNOWN_HASHES), SECONDS)
    assert {record.key: record.partition for record in handler.records} == {k: partition_of(k) for k in KNOWN_HASHES}


async def test_a_paused_partition_goes_on_at_its_offset_and_holds_nobody_up(cluster: Cluster) -> None:
    one, other = partition_of(b"abc"), partition_of(b"a-little-bit-long-string")
    assert one != other
    feed = cluster.feed(ATTEMPTS)
    handler = Pausing(feed, one, 50)
    async with cluster.log() as log:
        await log.produce(numbered(ATTEMPTS, 2000, key=b"abc"))  # several lists, fetched before the pause is obeyed
    async with cluster.log() as log, running(feed.run(handler)):
        await until(lambda: handler.is_paused, SECONDS)
        await log.produce(
            [*numbered(ATTEMPTS, 20, key=b"a-little-bit-long-string"), *numbered(ATTEMPTS, 20, key=b"abc")]
        )
        await until(lambda: len(handler.records) == 50 + 20, SECONDS)
        assert (handler.offsets(one), handler.offsets(other)) == (list(range(50)), list(range(20)))
        assert not handler.told_while_paused
        handler.resume()
        await until(lambda: len(handler.records) >= 2020 + 20, SECONDS)
    assert handler.offsets(one) == list(range(2020))


async def test_the_next_member_is_told_what_was_committed_with_its_metadata(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered(ATTEMPTS, 10, key=b"one"))
    first, feed = Handler(), cluster.feed(ATTEMPTS)
    async with running(feed.run(first)):
        await until(lambda: len(first.records) == 10, SECONDS)
        partition = first.records[0].partition
        await feed.commit({partition: Commit(3, "1:AAE=")})
        first.last_words = {partition: Commit(4, "1:gA==")}
    second = Handler()
    async with running(cluster.feed(ATTEMPTS).run(second)):
        await until(lambda: bool(second.records), SECONDS)
    assert second.committed[partition] == Commit(4, "1:gA==")
    assert second.records[0].offset == 4


async def test_a_partition_is_handed_over_while_its_first_member_lives_with_its_last_words(cluster: Cluster) -> None:
    first, second = Handler(), Handler()
    async with cluster.log() as log, running(cluster.feed(ATTEMPTS).run(first)):
        await log.produce(numbered(ATTEMPTS, 90))
        await until(lambda: len(first.records) == 90, SECONDS)
        ends = {partition: len(first.offsets(partition)) for partition in first.committed}
        first.last_words = {partition: Commit(end, "1:gA==") for partition, end in ends.items()}
        async with running(cluster.feed(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed), SECONDS)
            assert set(first.gone) == set(second.committed) < set(ends)
            assert second.committed == {partition: first.last_words[partition] for partition in first.gone}
            await log.produce(numbered(ATTEMPTS, 90))
            await until(lambda: len(first.records) + len(second.records) >= 180, SECONDS)
    assert {record.partition for record in second.records} == set(second.committed)
    for partition, end in ends.items():
        assert [*first.offsets(partition), *second.offsets(partition)] == list(range(2 * end))


async def test_a_retry_is_never_taken_before_it_is_due_and_what_comes_behind_it_is_taken_too(cluster: Cluster) -> None:
    topic, late, taken = "deliveries.retry.2s", list[float](), Handler()

    async def work(record: Record) -> None:
        due = record.appended_at + timedelta(seconds=2)
        late.append((datetime.now(UTC) - due).total_seconds())
        taken.received([record])

    feed = cluster.feed(topic)
    async with cluster.log() as log, running(Intake(feed, work, SystemClock(), FakeReport()).run()):
        await log.produce(numbered(topic, 20))
        await until(lambda: len(late) == 20, SECONDS)
        await log.produce(numbered(topic, 20))
        await log.produce(numbered(topic, 20))
        await until(lambda: len(late) == 60, SECONDS)
    assert min(late) >= 0
    for number in range(3):
        offsets = taken.offsets(Partition(topic, number))
        assert offsets == list(range(len(offsets)))


# -- view ------------------------------------------------------------------------------------------------------


async def test_the_view_is_ready_with_its_sentinel_only_and_sees_what_was_just_published(cluster: Cluster) -> None:
    codec = AvroCodec()

    def record(number: int) -> Outgoing:
        value = codec.encode(webhook(id=f"wh_{number}", version=number + 1))
        return Outgoing(SUBSCRIPTIONS, b"wh_%d" % number, value)

    reader = ViewReader(view_config(cluster.properties), cluster.prefix, codec, FakeReport(), SystemClock())
    async with cluster.log() as log, running(reader.run()):
        await log.produce([record(0)])
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        assert not reader.is_ready
        await log.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 1).encode())])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        for number in range(1, 6):
            await log.produce([record(number)])
            await asyncio.wait_for(reader.catch_up(), SECONDS)
            assert reader.find(f"wh_{number}") is not None
        await log.produce([Outgoing(SUBSCRIPTIONS, b"wh_3", None, ((VERSION_HEADER, b"9"),))])
        await asyncio.wait_for(reader.catch_up(), SECONDS)
        assert reader.find("wh_3") is None
        assert len(reader.of_account("acme")) == 5


class FastClock:
    """Ten minutes ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)


async def test_a_stage_whose_clock_is_wrong_is_not_ready_and_says_so(cluster: Cluster) -> None:
    reader = ViewReader(view_config(cluster.properties), cluster.prefix, AvroCodec(), FakeReport(), FastClock())
    async with cluster.log() as log, running(reader.run()):
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        await log.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 0).encode())])
        await until(lambda: reader.view.is_complete(), SECONDS)
        assert not reader.is_ready
        assert "clock is +600 s off" in reader.troubles()[0]


# -- Faust -----------------------------------------------------------------------------------------------------


async def test_faust_reads_whatever_a_producer_compresses_with(cluster: Cluster) -> None:
    codecs = ("none", "gzip", "lz4", "snappy", "zstd")
    for codec in codecs:
        producer = Producer({**cluster.properties, "compression.type": codec, "linger.ms": 50})
        for number in range(50):
            producer.produce(cluster.prefix + SESSION_EVENTS, b"%s %d " % (codec.encode(), number) + b"x" * 200)
        assert producer.flush(30) == 0
    seen: set[bytes] = set()

    async def handle(records: Sequence[Record]) -> None:
        seen.update(record.value or b"" for record in records)

    async with running(cluster.faust().run(handle)):
        await until(lambda: len(seen) == 50 * len(codecs), SECONDS)


async def test_a_batch_that_fails_ends_faust_and_is_handed_to_the_next_one_again(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered(SESSION_EVENTS, 500))
    done: set[int] = set()

    async def half(records: Sequence[Record]) -> None:
        if len(done) > 100:
            raise RuntimeError("in mid-work")
        done.update(int(record.value or b"") for record in records[:150])
        if len(records) > 150:
            raise RuntimeError("in mid-batch")

    with pytest.raises(RuntimeError, match="in mid"):
        await asyncio.wait_for(cluster.faust().run(half), SECONDS)

    async def all_of_it(records: Sequence[Record]) -> None:
        done.update(int(record.value or b"") for record in records)

    async with running(cluster.faust().run(all_of_it)):
        await until(lambda: done == set(range(500)), SECONDS)


async def test_a_stage_that_is_cancelled_in_mid_batch_loses_nothing(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered(SESSION_EVENTS, 300))
    in_hand: list[Record] = []
    again: set[int] = set()

    async def never_done(records: Sequence[Record]) -> None:
        in_hand.extend(records)
        await asyncio.Event().wait()

    async def all_of_it(records: Sequence[Record]) -> None:
        again.update(int(record.value or b"") for record in records)

    async with running(cluster.faust().run(never_done)):
        await until(lambda: bool(in_hand), SECONDS)
    async with running(cluster.faust().run(all_of_it)):
        await until(lambda: again == set(range(300)), SECONDS)
