"""What the stages rely on in Kafka, on the embedded broker and on Apache Kafka alike."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

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
    last_words: dict[Partition, Commit] = field(default_factory=dict)
    on_record: Callable[[Record], None] = lambda record: None

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self.committed.update(partitions)

    def received(self, records: Sequence[Record]) -> None:
        for record in records:
            self.records.append(record)
            self.on_record(record)

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        return {partition: self.last_words[partition] for partition in partitions if partition in self.last_words}


@asynccontextmanager
async def running(feed: KafkaFeed, handler: object) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run(handler))  # type: ignore[arg-type]
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def numbered(topic: str, count: int, key: bytes | None = None) -> list[Outgoing]:
    return [Outgoing(topic, key or b"k%d" % number, b"%d" % number) for number in range(count)]


# -- log and feed ----------------------------------------------------------------------------------------------


async def test_what_is_acknowledged_is_read_in_order_with_the_time_it_was_appended(cluster: Cluster) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    async with cluster.log() as log:
        appended = await log.produce(numbered(ATTEMPTS, 300))
    assert len(appended) == 300
    assert all(before < at < before + timedelta(seconds=60) for at in appended)
    handler = Handler()
    async with running(cluster.feed(ATTEMPTS), handler):
        await until(lambda: len(handler.records) == 300, SECONDS)
    assert {int(record.value or b"") for record in handler.records} == set(range(300))
    for number in range(3):
        offsets = [record.offset for record in handler.records if record.partition.number == number]
        assert offsets == sorted(set(offsets))


async def test_a_pause_with_a_rewind_drops_what_was_fetched_behind_and_reads_it_again(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered(ATTEMPTS, 200, key=b"one"))
    feed, handler, stopped = cluster.feed(ATTEMPTS), Handler(), False
    taken: list[int] = []

    def take(record: Record) -> None:
        nonlocal stopped
        if record.offset == 50 and not stopped:
            stopped = True
            feed.pause(record.partition, 50)
        elif not stopped or len(taken) >= 50:
            taken.append(record.offset)

    handler.on_record = take
    async with running(feed, handler):
        await until(lambda: stopped, SECONDS)
        handler.on_record = lambda record: taken.append(record.offset)
        feed.resume(handler.records[0].partition)
        await until(lambda: len(set(taken)) >= 200, SECONDS)
    assert [offset for offset in taken if offset >= 50][-150:] == list(range(50, 200))


async def test_the_next_member_is_told_what_was_committed_with_its_metadata(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered(ATTEMPTS, 10, key=b"one"))
    first, feed = Handler(), cluster.feed(ATTEMPTS)
    async with running(feed, first):
        await until(lambda: len(first.records) == 10, SECONDS)
        partition = first.records[0].partition
        await feed.commit({partition: Commit(3, "1:AAE=")})
        first.last_words = {partition: Commit(4, "1:gA==")}
    second = Handler()
    async with running(cluster.feed(ATTEMPTS), second):
        await until(lambda: bool(second.records), SECONDS)
    assert second.committed[partition] == Commit(4, "1:gA==")
    assert second.records[0].offset == 4


async def test_a_retry_is_never_taken_before_it_is_due_nor_much_later(cluster: Cluster) -> None:
    async with cluster.log() as log:
        await log.produce(numbered("deliveries.retry.2s", 20))
    late: list[float] = []

    async def work(record: Record) -> None:
        due = record.appended_at + timedelta(seconds=2)
        late.append((datetime.now(UTC) - due).total_seconds())

    feed = cluster.feed("deliveries.retry.2s")
    intake = asyncio.create_task(Intake(feed, work, SystemClock(), FakeReport()).run())
    try:
        await until(lambda: len(late) == 20, SECONDS)
    finally:
        intake.cancel()
        await asyncio.gather(intake, return_exceptions=True)
    assert min(late) >= 0


# -- view ------------------------------------------------------------------------------------------------------


async def test_the_view_is_ready_with_its_sentinel_only_and_sees_what_was_just_published(cluster: Cluster) -> None:
    codec = AvroCodec()

    def record(number: int) -> Outgoing:
        value = codec.encode(webhook(id=f"wh_{number}", version=number + 1))
        return Outgoing(SUBSCRIPTIONS, b"wh_%d" % number, value)

    reader = ViewReader(view_config(cluster.properties), cluster.prefix, codec, FakeReport(), SystemClock())
    reading = asyncio.create_task(reader.run())
    try:
        async with cluster.log() as log:
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
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class FastClock:
    """Ten minutes ahead."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)


async def test_a_stage_whose_clock_is_wrong_is_not_ready_and_says_so(cluster: Cluster) -> None:
    reader = ViewReader(view_config(cluster.properties), cluster.prefix, AvroCodec(), FakeReport(), FastClock())
    reading = asyncio.create_task(reader.run())
    try:
        async with cluster.log() as log:
            await asyncio.wait_for(reader.wait_until_read(), SECONDS)
            await log.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 0).encode())])
            await until(lambda: reader.view.is_complete(), SECONDS)
        assert not reader.is_ready
        assert "clock is +600 s off" in reader.troubles()[0]
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


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

    task = asyncio.create_task(cluster.faust().run(handle))
    try:
        await until(lambda: len(seen) == 50 * len(codecs), SECONDS)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


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

    task = asyncio.create_task(cluster.faust().run(all_of_it))
    try:
        await until(lambda: done == set(range(500)), SECONDS)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
