"""Members of a group join by what the brokers have, and change from one protocol to the other one by one."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import pytest

from contract.clusters import PARTITIONS, SECONDS, KafkaCluster, RecordCollector, cluster_on, numbered, running, until
from fakes import FakeTelemetry
from real.kafka import Kafka
from real.older_kafka import Kafka39, UnfinishedKafka
from streams.adapters.kafka.connection.config import consumer_config
from streams.adapters.kafka.consuming.consumer_thread import ConsumerFailed
from streams.adapters.kafka.consuming.group_protocol import AUTO, CLASSIC, CONSUMER
from streams.adapters.kafka.consuming.record_consumer import KafkaRecordConsumer
from streams.core.errors import Misconfigured
from streams.core.records.offset_tracker import Commit
from streams.outage import Outages
from streams.ports.kafka import Partition
from streams.topics import ATTEMPTS


class Member(RecordCollector):
    """Reads a topic, and commits behind what it has read when partitions are revoked."""

    def __init__(self, cluster: KafkaCluster, protocol: str = AUTO, instance_id: str | None = None) -> None:
        super().__init__()
        self.telemetry = FakeTelemetry()
        config = consumer_config(cluster.properties, f"{cluster.prefix}group", instance_id)
        outages = Outages(self.telemetry)
        self.consumer = KafkaRecordConsumer(
            config, [ATTEMPTS], cluster.prefix, self.telemetry, outages, protocol=protocol
        )

    @asynccontextmanager
    async def joined(self) -> AsyncIterator[None]:
        async with running(self.consumer.run(self)):
            await until(lambda: bool(self.committed))
            yield

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self.gone += partitions
        ends = {record.partition: Commit(record.offset + 1, "") for record in self.records}
        return {partition: ends[partition] for partition in partitions if partition in ends}


async def exchange(cluster: KafkaCluster, members: Sequence[Member]) -> None:
    """Each member joins, and then the one before it leaves. Every record is read once."""
    count = 0

    async def read() -> None:
        nonlocal count
        async with cluster.producer() as producer:
            await producer.produce(numbered(ATTEMPTS, 60))
        count += 60
        await until(lambda: sum(len(member.records) for member in members) >= count)

    before = AsyncExitStack()
    for member in members:
        stack = AsyncExitStack()
        await stack.enter_async_context(member.joined())
        await read()
        await before.aclose()
        await until(partial(has_all, member))
        await read()
        before = stack
    await before.aclose()
    seen = [(record.partition, record.offset) for member in members for record in member.records]
    assert len(seen) == len(set(seen)) == count


def has_all(member: Member) -> bool:
    return len(member.committed) == PARTITIONS


@pytest.mark.parametrize(("first", "next_"), [(CLASSIC, CONSUMER), (CONSUMER, CLASSIC), (CLASSIC, AUTO)])
async def test_a_group_changes_its_protocol_member_by_member(apache: KafkaCluster, first: str, next_: str) -> None:
    await exchange(apache, [Member(apache, protocol) for protocol in (first, first, next_, next_)])


async def test_an_older_broker_is_named_once(apache_3_7: KafkaCluster) -> None:
    member = Member(apache_3_7)
    async with member.joined():
        [(line, about)] = member.telemetry.logged
        assert line == "group_protocol_classic"
        assert about["group"] == f"{apache_3_7.prefix}group"


async def test_a_choice_that_the_brokers_lack_is_refused(apache_3_7: KafkaCluster) -> None:
    member = Member(apache_3_7, CONSUMER)
    with pytest.raises(Misconfigured, match="set it to auto"):
        await asyncio.wait_for(member.consumer.run(member), SECONDS)


async def test_a_newer_broker_needs_no_word(apache: KafkaCluster) -> None:
    member = Member(apache)
    async with member.joined():
        assert member.telemetry.logged == []


async def test_a_member_with_a_name_comes_back_without_a_rebalance(classic: KafkaCluster) -> None:
    named, other = Member(classic, CLASSIC, "pod-0"), Member(classic, CLASSIC, "pod-1")
    async with other.joined():
        async with named.joined():
            await until(lambda: len(other.committed) == PARTITIONS and bool(other.gone))
            had, gone = set(named.committed), list(other.gone)
        again = Member(classic, CLASSIC, "pod-0")
        async with again.joined():
            assert set(again.committed) == had
        assert other.gone == gone


async def test_of_two_members_with_one_name_the_later_one_stays(classic: KafkaCluster) -> None:
    first, second = Member(classic, CLASSIC, "pod-0"), Member(classic, CLASSIC, "pod-0")
    reading = asyncio.create_task(first.consumer.run(first))
    await until(lambda: has_all(first))
    async with second.joined():
        with pytest.raises(ConsumerFailed, match="fenced"):
            await asyncio.wait_for(reading, SECONDS)
        assert has_all(second)


@pytest.fixture
def unfinished_kafka() -> Iterator[Kafka]:
    server = UnfinishedKafka()
    try:
        yield server
    finally:
        server.remove()


async def test_a_cluster_that_is_not_finally_upgraded_is_joined(unfinished_kafka: Kafka) -> None:
    cluster = cluster_on(unfinished_kafka.bootstrap)
    member = Member(cluster)
    async with member.joined(), cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 30))
        await until(lambda: len(member.records) == 30)
    assert [line for line, _ in member.telemetry.logged] == ["group_protocol_classic"]


@pytest.fixture
def upgraded() -> Iterator[Kafka39]:
    server = Kafka39()
    try:
        yield server
    finally:
        server.remove()


async def test_a_broker_is_upgraded_beneath_its_members(upgraded: Kafka39) -> None:
    cluster = cluster_on(upgraded.bootstrap)
    member, newcomer = Member(cluster), Member(cluster)

    async def read(count: int) -> None:
        async with cluster.producer() as producer:
            await producer.produce(numbered(ATTEMPTS, 30))
        await until(lambda: len(member.records) + len(newcomer.records) >= count)

    async with member.joined():
        await read(30)
        await asyncio.to_thread(upgraded.stop)
        await asyncio.to_thread(upgraded.upgrade)
        await read(60)
        async with newcomer.joined():
            await read(90)
        await until(lambda: not member.consumer.readiness_problems())
        await read(120)
