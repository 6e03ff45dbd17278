"""A malformed record is read, and so are the records around it."""

import asyncio
from collections.abc import Sequence

from contract.clusters import KafkaCluster, RecordCollector, numbered, running, until
from fakes import EventConsumer
from real.strange_producer import VALUE, produce_strange_records
from streams.ports.kafka import Record
from streams.topics import DELIVERIES, SESSION_EVENTS


async def produce_undecodable(cluster: KafkaCluster, topic: str) -> int:
    """Produce malformed records between valid ones. Returns the count of all."""
    async with cluster.producer() as producer:
        await producer.produce(numbered(topic, 100))
        bootstrap = str(cluster.properties["bootstrap.servers"])
        strange = await asyncio.to_thread(produce_strange_records, bootstrap, cluster.prefix + topic)
        await producer.produce(numbered(topic, 100))
    return 200 + strange


async def test_librdkafka_reads_strange_records_and_all_others(kafka_cluster: KafkaCluster) -> None:
    count = await produce_undecodable(kafka_cluster, DELIVERIES)
    handler = RecordCollector()
    async with running(kafka_cluster.consumer(DELIVERIES).run(handler)):
        await until(lambda: len(handler.records) >= count)
    check(handler.records, count)


async def test_faust_reads_strange_records_and_all_others(kafka_cluster: KafkaCluster) -> None:
    count = await produce_undecodable(kafka_cluster, SESSION_EVENTS)
    records: list[Record] = []

    async def handle(batch: Sequence[Record]) -> None:
        records.extend(batch)

    async with running(EventConsumer(kafka_cluster.faust()).run(handle)):
        await until(lambda: len(records) >= count)
    check(records, count)


def check(records: Sequence[Record], count: int) -> None:
    values = [record.value or b"" for record in records]
    strange = {value for value in values if value.startswith(VALUE)}
    assert len(strange) == count - 200
    assert {int(value) for value in values if not value.startswith(VALUE)} == set(range(100))
    for record in records:
        assert all(isinstance(name, str) and isinstance(value, bytes) for name, value in record.headers)
        assert record.appended_at.year >= 1970
