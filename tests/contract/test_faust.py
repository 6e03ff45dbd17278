"""Faust hands every event over until its batch was fanned out, whatever ends it in between."""

import asyncio
from collections.abc import Sequence

import pytest
from confluent_kafka import Producer

from contract.clusters import SECONDS, KafkaCluster, numbered, running, until
from streams.ports import Record
from streams.topics import SESSION_EVENTS


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
