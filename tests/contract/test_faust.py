"""Faust passes on every event until its batch is done, whatever interrupts it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError
from confluent_kafka import Consumer as RealConsumer
from confluent_kafka import Producer, TopicPartition
from faust.transport.consumer import Consumer

from contract.clusters import PARTITIONS, SECONDS, KafkaCluster, numbered, running, until
from fakes import FakeTelemetry
from real.kafka import partition_of
from streams.adapters.faust import patches
from streams.adapters.faust import stage as stage_module
from streams.adapters.faust.read_ahead import LARGE_BATCH, ReadAhead
from streams.adapters.faust.stage import FaustCrashed, FaustStage
from streams.adapters.kafka.config import producer_config
from streams.ports import Outgoing, Partition, Record, RecordProducer
from streams.topics import SESSION_EVENTS

pytestmark = pytest.mark.slow

# Only a small buffer gets full.
ROOM = 50
BACKLOG = 6000
# One key for each partition.
KEYS = [
    next(key for key in (b"%d" % n for n in range(100)) if partition_of(key, PARTITIONS) == partition)
    for partition in range(PARTITIONS)
]


class RunningStage(NamedTuple):
    stage: FaustStage
    producer: RecordProducer
    done: list[bytes | None]
    serving: asyncio.Task[None]


async def test_faust_reads_every_compression(kafka_cluster: KafkaCluster) -> None:
    codecs = ("none", "gzip", "lz4", "snappy", "zstd")
    for codec in codecs:
        producer = Producer({**kafka_cluster.properties, "compression.type": codec, "linger.ms": 50})
        for number in range(50):
            producer.produce(kafka_cluster.prefix + SESSION_EVENTS, b"%s %d " % (codec.encode(), number) + b"x" * 200)
        assert producer.flush(30) == 0
    seen: set[bytes] = set()

    async def handle(records: Sequence[Record]) -> None:
        seen.update(record.value or b"" for record in records)

    async with running(kafka_cluster.faust().run(handle)):
        await until(lambda: len(seen) == 50 * len(codecs))


async def test_a_stage_is_ready_once_it_was_given_its_partitions(kafka_cluster: KafkaCluster) -> None:
    stage = kafka_cluster.faust()

    async def handle(records: Sequence[Record]) -> None:
        """There are no records."""

    assert stage.readiness_problems()
    async with running(stage.run(handle)):
        await until(lambda: not stage.readiness_problems())
        assert len(consumer(stage).assignment()) == PARTITIONS


async def test_a_stage_makes_no_file(
    kafka_cluster: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stage = kafka_cluster.faust()

    async def handle(records: Sequence[Record]) -> None:
        """There are no records."""

    async with running(stage.run(handle)):
        await until(lambda: not stage.readiness_problems())
    assert names_in(tmp_path) == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_failed_batch_ends_faust_and_is_read_again(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 500))
    done: set[int] = set()

    async def half(records: Sequence[Record]) -> None:
        if len(done) > 100:
            raise RuntimeError("in mid-work")
        done.update(int(record.value or b"") for record in records[:150])
        if len(records) > 150:
            raise RuntimeError("in mid-batch")

    with pytest.raises(RuntimeError, match="in mid"):
        await asyncio.wait_for(kafka_cluster.faust().run(half), SECONDS)

    async def all_of_it(records: Sequence[Record]) -> None:
        done.update(int(record.value or b"") for record in records)

    async with running(kafka_cluster.faust().run(all_of_it)):
        await until(lambda: done == set(range(500)))


async def test_a_stage_that_is_cancelled_in_mid_batch_loses_nothing(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 300))
    in_hand: list[Record] = []
    again: set[int] = set()

    async def never_done(records: Sequence[Record]) -> None:
        in_hand.extend(records)
        await asyncio.Event().wait()

    async def all_of_it(records: Sequence[Record]) -> None:
        again.update(int(record.value or b"") for record in records)

    async with running(kafka_cluster.faust().run(never_done)):
        await until(lambda: bool(in_hand))
    async with running(kafka_cluster.faust().run(all_of_it)):
        await until(lambda: again == set(range(300)))


async def test_a_full_buffer_keeps_each_event_once_and_in_order(
    kafka_cluster: KafkaCluster,
) -> None:
    produce_backlog(kafka_cluster, BACKLOG)
    stage = with_small_buffer(kafka_cluster.faust())
    done: list[Record] = []

    async def handle(records: Sequence[Record]) -> None:
        if not done:
            await until(lambda: is_full(stage))
        done.extend(records)

    async with running(stage.run(handle)):
        await until(lambda: len(done) >= BACKLOG)
    assert sorted(int(record.value or b"") for record in done) == list(range(BACKLOG))
    for partition in {record.partition for record in done}:
        offsets = [record.offset for record in done if record.partition == partition]
        assert offsets == list(range(len(offsets)))


@pytest.mark.real
async def test_an_event_behind_a_burst_has_its_turn(apache: KafkaCluster) -> None:
    produce_backlog(apache, BACKLOG)
    async with apache.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"other") for key in KEYS])
    stage, done = apache.faust(), list[bytes | None]()

    async def handle(records: Sequence[Record]) -> None:
        # All is read by the end of the first batch.
        await until(lambda: len(stage._read_ahead) + len(done) >= BACKLOG + len(KEYS))
        done.extend(record.value for record in records)

    async with running(stage.run(handle, account_of=account_of)):
        await until(lambda: len(done) == BACKLOG + len(KEYS))
    before = [index for index, value in enumerate(done) if value == b"other"]
    assert len(before) == len(KEYS)
    assert max(before) < 2 * LARGE_BATCH


@pytest.mark.real
async def test_a_stage_killed_within_a_burst_loses_nothing_of_it(apache: KafkaCluster) -> None:
    """The events of others are done and behind it: a commit must not pass the burst."""
    produce_backlog(apache, BACKLOG)
    async with apache.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"other") for key in KEYS])
    stage, done, again = apache.faust(), list[bytes | None](), list[bytes | None]()

    async def only_one_of_the_burst(records: Sequence[Record]) -> None:
        if done:
            await until(lambda: len(stage._read_ahead) + len(done) >= BACKLOG + len(KEYS))
        if b"other" in done:
            await asyncio.Event().wait()
        done.extend(record.value for record in records)

    async with running(stage.run(only_one_of_the_burst, account_of=account_of, cost_of=lambda _: LARGE_BATCH)):
        await until(lambda: b"other" in done and len(done) > 1)

    async def all_of_it(records: Sequence[Record]) -> None:
        again.extend(record.value for record in records)

    async with running(apache.faust().run(all_of_it, account_of=account_of)):
        await until(lambda: len({*done, *again}) == BACKLOG + 1)


def account_of(record: Record) -> str:
    return "other" if record.value == b"other" else "burst"


@pytest.mark.real
async def test_a_member_that_joins_a_full_one_loses_nothing(apache: KafkaCluster) -> None:
    # The embedded broker may reject two classic members that join at once.
    produce_backlog(apache, BACKLOG)
    first, second = with_small_buffer(apache.faust()), apache.faust()
    done: set[int] = set()
    joined = asyncio.Event()

    async def with_full_buffer(records: Sequence[Record]) -> None:
        if not joined.is_set():
            await until(lambda: is_full(first))
            await joined.wait()
        done.update(int(record.value or b"") for record in records)

    async def newcomer(records: Sequence[Record]) -> None:
        joined.set()
        done.update(int(record.value or b"") for record in records)

    async with running(first.run(with_full_buffer)):
        await until(lambda: is_full(first))
        async with running(second.run(newcomer)):
            await until(lambda: joined.is_set() and done == set(range(BACKLOG)))


@pytest.mark.real
@pytest.mark.parametrize("in_hand", [False, True], ids=["done", "in hand"])
async def test_a_member_that_joins_repeats_nothing(apache: KafkaCluster, in_hand: bool) -> None:
    """At a rebalance Faust forgets what it has not committed yet."""
    first, second = apache.faust(), apache.faust()
    first._app.conf.broker_commit_interval = 3600
    done: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        if in_hand:
            await until(lambda: first._app.rebalancing_count > 1)
        done.extend(int(record.value or b"") for record in records)

    async def newcomer(records: Sequence[Record]) -> None:
        done.extend(int(record.value or b"") for record in records)

    async with apache.producer() as producer, running(first.run(handle)):
        await until(lambda: not first.readiness_problems())
        await producer.produce(numbered(SESSION_EVENTS, 300))
        await until(lambda: in_hand or len(done) == 300)
        async with running(second.run(newcomer)):
            await until(lambda: not second.readiness_problems())
            await producer.produce([Outgoing(SESSION_EVENTS, key, b"300") for key in KEYS])
            await until(lambda: done.count(300) == len(KEYS))
    assert sorted(set(done)) == list(range(301))
    assert len(done) == 300 + len(KEYS)


@pytest.mark.real
async def test_a_batch_that_does_not_end_holds_up_no_member(apache: KafkaCluster) -> None:
    first, second = apache.faust(), apache.faust()
    in_hand = asyncio.Event()
    again: set[Partition] = set()

    async def never_done(records: Sequence[Record]) -> None:
        in_hand.set()
        await asyncio.Event().wait()

    async def newcomer(records: Sequence[Record]) -> None:
        again.update(record.partition for record in records)

    async with apache.producer() as producer, running(first.run(never_done)):
        await producer.produce([Outgoing(SESSION_EVENTS, key, key) for key in KEYS])
        await asyncio.wait_for(in_hand.wait(), SECONDS)
        async with running(second.run(newcomer)):
            await until(lambda: bool(again))


async def test_a_last_commit_without_an_answer_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(patches, "commit", hangs)
    monkeypatch.setattr(stage_module, "COMMIT_SECONDS", 0.01)
    telemetry = FakeTelemetry()
    stage = FaustStage({"bootstrap.servers": "127.0.0.1:1"}, "fan-out", SESSION_EVENTS, "", None, telemetry)
    await asyncio.wait_for(stage._finish(), SECONDS)
    assert [event for event, _ in telemetry.logged] == ["last_commit_failed"]


async def test_events_dropped_in_a_rebalance_are_read_again(
    kafka_cluster: KafkaCluster,
) -> None:
    """Faust drops them in a rebalance after a topic grew, and seeks to the committed offset, which does not exist."""
    async with reading(kafka_cluster) as (stage, producer, done, _serving):
        for key in KEYS[1:]:
            dropped = await drop(stage, key)
            await producer.produce([Outgoing(SESSION_EVENTS, key, key)])
            await asyncio.wait_for(dropped.wait(), SECONDS)
            await until(partial(done.__contains__, key))


async def test_a_stage_that_cannot_seek_back_ends(kafka_cluster: KafkaCluster) -> None:
    async def broken() -> None:
        raise GroupAuthorizationFailedError("the group")

    async with reading(kafka_cluster) as (stage, producer, _done, serving):
        consumer(stage)._thread.seek_to_committed = broken
        await drop(stage, b"key")
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"key")])
        with pytest.raises(FaustCrashed, match="the group"):
            await asyncio.wait_for(asyncio.shield(serving), SECONDS)


async def test_a_stage_goes_on_when_a_rebalance_interrupts_a_seek(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster) as (stage, producer, done, _serving):
        go_back, assignment = consumer(stage)._thread.seek_to_committed, consumer(stage).assignment

        async def too_late() -> None:
            # The new owner of the partitions starts at the committed offsets, even if it is this stage.
            consumer(stage)._thread.seek_to_committed = go_back
            consumer(stage).assignment = set
            raise IllegalStateError("not assigned")

        consumer(stage)._thread.seek_to_committed = too_late
        dropped = await drop(stage, b"key")
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"key")])
        await asyncio.wait_for(dropped.wait(), SECONDS)
        consumer(stage).assignment = assignment
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"after all")])
        await until(partial(done.__contains__, b"after all"))


@asynccontextmanager
async def reading(cluster: KafkaCluster) -> AsyncIterator[RunningStage]:
    """Run a stage that has its partitions and has read a first event."""
    stage = cluster.faust()
    done: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with cluster.producer() as producer:
        serving = asyncio.create_task(stage.run(handle))
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, KEYS[0], b"first")])
            await until(partial(done.__contains__, b"first"))
            yield RunningStage(stage, producer, done, serving)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def drop(stage: FaustStage, value: bytes) -> asyncio.Event:
    """Suspend the flow when a fetch brings this record. The returned event is set when Faust has dropped it."""
    fetching, brought, dropped = asyncio.Event(), asyncio.Event(), asyncio.Event()
    fetch = consumer(stage)._wait_next_records

    async def fetched_in_vain(seconds: float) -> Any:
        if brought.is_set():
            consumer(stage)._wait_next_records = fetch
            consumer(stage).resume_flow()
            dropped.set()
            return await fetch(seconds)
        fetching.set()
        records, active = await fetch(seconds)
        if any(record.value == value for records in records.values() for record in records):
            consumer(stage).stop_flow()
            brought.set()
        return records, active

    consumer(stage)._wait_next_records = fetched_in_vain
    await asyncio.wait_for(fetching.wait(), SECONDS)
    return dropped


def consumer(stage: FaustStage) -> Any:
    return stage._app.consumer


def produce_backlog(cluster: KafkaCluster, count: int) -> None:
    """Produce events in large batches. Small ones never fill Faust's buffer."""
    producer = Producer(producer_config(cluster.properties, linger_ms=1000))
    for event in numbered(SESSION_EVENTS, count):
        producer.produce(cluster.prefix + event.topic, event.value, event.key)
    assert producer.flush(30) == 0


def with_small_buffer(stage: FaustStage) -> FaustStage:
    stage._buffer.room = ROOM
    stage._read_ahead = ReadAhead(max_events=ROOM)
    return stage


def is_full(stage: FaustStage) -> bool:
    return stage._buffer.is_full


async def test_a_stop_commits_what_was_done_during_a_commit(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, is_waited_for = Event(), Event()
    commit, wait = AIOKafkaConsumer.commit, Consumer.maybe_wait_for_commit_to_finish

    async def slow_commit(consumer: Any, offsets: Any) -> None:
        under_way.set()
        async with asyncio.timeout(SECONDS):
            while not is_waited_for.is_set():
                await asyncio.sleep(0.005)
        await commit(consumer, offsets)

    async def recorded_wait(consumer: Any) -> bool:
        if consumer._commit_fut is not None:
            is_waited_for.set()
        return await wait(consumer)

    monkeypatch.setattr(AIOKafkaConsumer, "commit", slow_commit)
    monkeypatch.setattr(Consumer, "maybe_wait_for_commit_to_finish", recorded_wait)
    done: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with kafka_cluster.producer() as producer:
        async with running(kafka_cluster.faust().run(handle)):
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"first")])
            await until(under_way.is_set)
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"second")])
            await until(lambda: done == [b"first", b"second"])
        async with running(kafka_cluster.faust().run(handle)):
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"third")])
            await until(lambda: b"third" in done)
    assert done == [b"first", b"second", b"third"]


async def test_offsets_beyond_the_end_lose_no_event(kafka_cluster: KafkaCluster) -> None:
    """After deleted records, or offsets that a person set, aiokafka starts at the earliest event."""
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 30))
    group = f"{kafka_cluster.prefix}fan-out"
    setter = RealConsumer({**kafka_cluster.properties, "group.id": group, "enable.auto.commit": False})
    ends = [TopicPartition(kafka_cluster.prefix + SESSION_EVENTS, number, 1000) for number in range(PARTITIONS)]
    setter.commit(offsets=ends, asynchronous=False)
    done: set[int] = set()

    async def handle(records: Sequence[Record]) -> None:
        done.update(int(record.value or b"") for record in records)

    def committed() -> int:
        return sum(found.offset for found in setter.committed(ends, timeout=SECONDS))

    async with running(kafka_cluster.faust().run(handle)):
        await until(lambda: done == set(range(30)))
        later = range(100, 100 + len(KEYS))
        async with kafka_cluster.producer() as producer:
            await producer.produce(
                [Outgoing(SESSION_EVENTS, key, b"%d" % n) for n, key in zip(later, KEYS, strict=True)]
            )
        await until(lambda: committed() == 30 + len(later))
    setter.close()
    assert done.issuperset(later)
    again: set[int] = set()

    async def count(records: Sequence[Record]) -> None:
        again.update(int(record.value or b"") for record in records)

    async with kafka_cluster.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"200") for key in KEYS])
    async with running(kafka_cluster.faust().run(count)):
        await until(lambda: 200 in again)
    assert again == {200}
