"""Faust hands every event over until its batch was fanned out, whatever ends it in between."""

import asyncio
from collections.abc import Sequence
from functools import partial
from threading import Event
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError
from confluent_kafka import Producer
from faust.transport.consumer import Consumer

from contract.clusters import PARTITIONS, SECONDS, KafkaCluster, numbered, running, until
from real.kafka import partition_of
from streams.adapters.faust_app import FaustCrashed, FaustStage
from streams.ports import Outgoing, Record
from streams.topics import SESSION_EVENTS

# Faust stops to fetch at four fifths of its buffer: what it fetched before fills that only if it is small.
ROOM = 50
BACKLOG = 6000
# One of each partition.
KEYS = [
    next(key for key in (b"%d" % n for n in range(100)) if partition_of(key, PARTITIONS) == partition)
    for partition in range(PARTITIONS)
]


async def test_faust_reads_whatever_a_producer_compresses_with(kafka_cluster: KafkaCluster) -> None:
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


async def test_a_batch_that_fails_ends_faust_and_is_handed_to_the_next_one_again(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.log() as log:
        await log.produce(numbered(SESSION_EVENTS, 500))
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
    async with kafka_cluster.log() as log:
        await log.produce(numbered(SESSION_EVENTS, 300))
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


async def test_behind_a_backlog_that_fills_its_buffer_faust_hands_each_event_over_once_and_in_order(
    kafka_cluster: KafkaCluster,
) -> None:
    async with kafka_cluster.log() as log:
        await log.produce(numbered(SESSION_EVENTS, BACKLOG))
    stage = with_little_room(kafka_cluster.faust())
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
async def test_a_member_that_joins_while_the_other_has_no_room_loses_nothing(apache: KafkaCluster) -> None:
    # The embedded broker may refuse two members of Faust's kind that join at once.
    async with apache.log() as log:
        await log.produce(numbered(SESSION_EVENTS, BACKLOG))
    first, second = with_little_room(apache.faust()), apache.faust()
    done: set[int] = set()
    joined = asyncio.Event()

    async def with_no_room(records: Sequence[Record]) -> None:
        if not joined.is_set():
            await until(lambda: is_full(first))
            await joined.wait()
        done.update(int(record.value or b"") for record in records)

    async def newcomer(records: Sequence[Record]) -> None:
        joined.set()
        done.update(int(record.value or b"") for record in records)

    async with running(first.run(with_no_room)):
        await until(lambda: is_full(first))
        async with running(second.run(newcomer)):
            await until(lambda: joined.is_set() and done == set(range(BACKLOG)))


async def test_what_is_fetched_while_the_flow_stands_still_is_read_again_though_nothing_was_committed(
    kafka_cluster: KafkaCluster,
) -> None:
    """As in a rebalance after a topic grew: Faust drops it, and goes back to what was committed, which is nothing."""
    stage = kafka_cluster.faust()
    done: list[bytes | None] = []
    dropped = 0

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with kafka_cluster.log() as log, running(stage.run(handle)):
        await until(lambda: stage._app.flow_control.is_active())
        consumer: Any = stage._app.consumer
        fetch, still = consumer._wait_next_records, asyncio.Event()

        async def watched(seconds: float) -> Any:
            nonlocal dropped
            if not consumer.flow_active:
                still.set()
            records, active = await fetch(seconds)
            dropped += 0 if consumer.flow_active else sum(map(len, records.values()))
            return records, active

        consumer._wait_next_records = watched
        for key in KEYS:
            still.clear()
            consumer.stop_flow()
            await log.produce([Outgoing(SESSION_EVENTS, key, key)])
            await asyncio.wait_for(still.wait(), SECONDS)
            consumer.resume_flow()
            await until(partial(done.__contains__, key))
    assert dropped, "or this test has tried nothing"


async def test_a_stage_that_cannot_go_back_to_what_it_dropped_ends(kafka_cluster: KafkaCluster) -> None:
    stage = kafka_cluster.faust()

    async def broken() -> None:
        raise GroupAuthorizationFailedError("the group")

    async def handle(records: Sequence[Record]) -> None:
        """There are none."""

    serving = asyncio.create_task(stage.run(handle))
    await until(lambda: stage._app.flow_control.is_active())
    consumer: Any = stage._app.consumer
    consumer._thread.seek_to_committed = broken
    consumer.stop_flow()
    with pytest.raises(FaustCrashed, match="the group"):
        await asyncio.wait_for(serving, SECONDS)


async def test_a_stage_whose_partitions_change_while_it_goes_back_goes_on(kafka_cluster: KafkaCluster) -> None:
    stage = kafka_cluster.faust()
    done: list[bytes | None] = []
    reassigned = asyncio.Event()

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with kafka_cluster.log() as log, running(stage.run(handle)):
        await until(lambda: stage._app.flow_control.is_active())
        consumer: Any = stage._app.consumer
        go_back, assignment = consumer._thread.seek_to_committed, consumer.assignment

        async def too_late() -> None:
            consumer.assignment = set
            consumer._thread.seek_to_committed = go_back
            reassigned.set()
            raise IllegalStateError("not assigned")

        consumer._thread.seek_to_committed = too_late
        consumer.stop_flow()
        await asyncio.wait_for(reassigned.wait(), SECONDS)
        consumer.assignment = assignment
        consumer.resume_flow()
        await log.produce([Outgoing(SESSION_EVENTS, b"key", b"after all")])
        await until(lambda: done == [b"after all"])


def with_little_room(stage: FaustStage) -> FaustStage:
    stage._app.conf.stream_buffer_maxsize = ROOM
    return stage


def is_full(stage: FaustStage) -> bool:
    return stage._arrived is not None and stage._arrived.full()


async def test_what_was_done_while_a_commit_was_on_its_way_is_committed_by_a_stop(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_its_way, somebody_waits = Event(), Event()
    commit, wait = AIOKafkaConsumer.commit, Consumer.maybe_wait_for_commit_to_finish

    async def slow_commit(consumer: Any, offsets: Any) -> None:
        on_its_way.set()
        async with asyncio.timeout(SECONDS):
            while not somebody_waits.is_set():
                await asyncio.sleep(0.005)
        await commit(consumer, offsets)

    async def told_wait(consumer: Any) -> bool:
        if consumer._commit_fut is not None:
            somebody_waits.set()
        return await wait(consumer)

    monkeypatch.setattr(AIOKafkaConsumer, "commit", slow_commit)
    monkeypatch.setattr(Consumer, "maybe_wait_for_commit_to_finish", told_wait)
    done: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with kafka_cluster.log() as log:
        async with running(kafka_cluster.faust().run(handle)):
            await log.produce([Outgoing(SESSION_EVENTS, b"key", b"first")])
            await until(on_its_way.is_set)
            await log.produce([Outgoing(SESSION_EVENTS, b"key", b"second")])
            await until(lambda: done == [b"first", b"second"])
        async with running(kafka_cluster.faust().run(handle)):
            await log.produce([Outgoing(SESSION_EVENTS, b"key", b"third")])
            await until(lambda: b"third" in done)
    assert done == [b"first", b"second", b"third"]
