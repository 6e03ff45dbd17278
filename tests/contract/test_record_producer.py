"""Acknowledged records are on the topic, in order, with their append time."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from contract.clusters import Cluster, KafkaCluster, RecordCollector, cluster_on, numbered, running, until
from real.kafka import Kafka
from streams.core.errors import RecordsRefused
from streams.ports.kafka import Outgoing, Partition
from streams.topics import ATTEMPTS, MAX_RECORD_BYTES, RECORD_BYTES


async def test_acknowledged_records_are_read_with_their_append_time(cluster: Cluster) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    async with cluster.producer() as producer:
        appended = await producer.produce(numbered(ATTEMPTS, 300))
    assert len(appended) == 300
    assert all(before < at < before + timedelta(seconds=60) for at in appended)
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 300)
    assert {int(record.value or b"") for record in handler.records} == set(range(300))
    for number in range(3):
        offsets = handler.offsets(Partition(ATTEMPTS, number))
        assert offsets == list(range(len(offsets)))


async def test_a_record_is_read_as_it_was_produced(cluster: Cluster) -> None:
    headers = (("version", b"7"), ("trace", b"\x00\xff"), ("trace", b"again"))
    async with cluster.producer() as producer:
        await producer.produce(
            [
                Outgoing(ATTEMPTS, b"full", b"\x00value", headers),
                Outgoing(ATTEMPTS, b"deleted", None, headers[:1]),
                Outgoing(ATTEMPTS, b"empty", b""),
                Outgoing(ATTEMPTS, None, b"without a key"),
            ]
        )
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 4)
    assert {record.key: (record.value, tuple(record.headers)) for record in handler.records} == {
        b"full": (b"\x00value", headers),
        b"deleted": (None, headers[:1]),
        b"empty": (b"", ()),
        None: (b"without a key", ()),
    }


async def test_records_of_one_key_keep_their_order(cluster: Cluster) -> None:
    keys = [b"wh_%d" % number for number in range(8)]
    async with cluster.producer() as producer:
        for number in range(20):
            await producer.produce([Outgoing(ATTEMPTS, key, b"%d" % number) for key in keys])
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 20 * len(keys))
    assert len({handler.partition_of(key) for key in keys}) > 1
    for key in keys:
        values = [record.value for record in handler.records if record.key == key]
        assert values == [b"%d" % number for number in range(20)]


async def test_to_produce_nothing_is_done_at_once(cluster: Cluster) -> None:
    async with cluster.producer() as producer:
        assert list(await producer.produce([])) == []


async def test_a_record_too_large_is_refused_alone(cluster: Cluster) -> None:
    good = numbered(ATTEMPTS, 20)
    too_large = Outgoing(ATTEMPTS, b"large", bytes(MAX_RECORD_BYTES + 1))
    async with cluster.producer() as producer:
        with pytest.raises(RecordsRefused) as refused:
            await producer.produce([*good[:10], too_large, *good[10:]])
        assert list(refused.value.reasons) == [10]
        assert len(refused.value.append_times) == 20
        assert len(await producer.produce(good)) == 20
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 40)


@pytest.mark.real
async def test_a_record_that_only_the_broker_refuses_spoils_no_batch(own_kafka: Kafka) -> None:
    """A record that is too large for the topic, in one batch with valid ones."""
    cluster: KafkaCluster = cluster_on(own_kafka.bootstrap)
    noise = random.Random(1).randbytes(RECORD_BYTES + 1000)
    good = numbered(ATTEMPTS, 200, key=b"wh_1")
    async with cluster.producer() as producer:
        with pytest.raises(RecordsRefused) as refused:
            await producer.produce([*good[:100], Outgoing(ATTEMPTS, b"wh_1", noise), *good[100:]])
        assert list(refused.value.reasons) == [100]
        assert "too large" in refused.value.reasons[100]
        await producer.produce(good[:1])
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 201)
    assert {record.value for record in handler.records} == {record.value for record in good}
