"""A member that gives a partition up commits, and its next owner reads on, whatever the coordinator answers first."""

import asyncio

import pytest
from confluent_kafka import KafkaError

from contract.clusters import SECONDS, KafkaCluster, RecordCollector, numbered, running, until
from contract.refusing_broker import OFFSET_COMMIT_REQUEST, OFFSET_FETCH_REQUEST, RefusingBroker
from streams.adapters.kafka.consuming import consumer_thread
from streams.adapters.kafka.consuming.consumer_thread import ConsumerFailed
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Partition
from streams.topics import ATTEMPTS, Topic

pytestmark = pytest.mark.slow

ONLY = Partition(ATTEMPTS, 0)
COMMIT = Commit(2, "1:AQ==")
STALE, MOVED, LOADS = (
    KafkaError.STALE_MEMBER_EPOCH,
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)
DENIED = KafkaError.GROUP_AUTHORIZATION_FAILED


async def cluster_with_records(broker: RefusingBroker) -> KafkaCluster:
    cluster = KafkaCluster({"bootstrap.servers": broker.bootstrap}, "", embedded=broker)
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 5))
    return cluster


@pytest.mark.parametrize(
    "answers",
    [[STALE] * 3, [MOVED, LOADS, MOVED], [KafkaError.NO_ERROR, MOVED], [DENIED]],
    ids=["the group changes", "the coordinator moves", "it moves after the first answer", "a permission comes late"],
)
async def test_a_partition_is_read_from_its_last_commit(answers: list[int]) -> None:
    with RefusingBroker([Topic(ATTEMPTS, "webhook id", 1)]) as broker:
        cluster = await cluster_with_records(broker)
        before, consumer = RecordCollector(), cluster.consumer(ATTEMPTS)
        async with running(consumer.run(before)):
            await until(lambda: len(before.records) == 5)
            await consumer.commit({ONLY: COMMIT})
        broker.refuse(OFFSET_FETCH_REQUEST, answers)
        after = RecordCollector()
        async with running(cluster.consumer(ATTEMPTS).run(after)):
            await until(lambda: len(after.records) == 3)
        assert after.committed == {ONLY: COMMIT}
        assert [record.offset for record in after.records] == [2, 3, 4]


@pytest.mark.parametrize("answers", [[STALE] * 2, [MOVED, LOADS]], ids=["the group changes", "the coordinator moves"])
async def test_the_last_commit_of_an_owner_is_made(answers: list[int]) -> None:
    with RefusingBroker([Topic(ATTEMPTS, "webhook id", 1)]) as broker:
        cluster = await cluster_with_records(broker)
        before = RecordCollector(final_commits={ONLY: COMMIT})
        async with running(cluster.consumer(ATTEMPTS).run(before)):
            await until(lambda: len(before.records) == 5)
            broker.refuse(OFFSET_COMMIT_REQUEST, answers)
        after = RecordCollector()
        async with running(cluster.consumer(ATTEMPTS).run(after)):
            await until(lambda: len(after.records) == 3)
        assert after.committed == {ONLY: COMMIT}


async def test_a_consumer_that_may_not_read_its_commits_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process starts again, and its readiness says why meanwhile. Without commits it would read everything."""
    monkeypatch.setattr(consumer_thread, "TAKE_OVER_TIMEOUT_SECONDS", 1.5)
    with RefusingBroker([Topic(ATTEMPTS, "webhook id", 1)]) as broker:
        cluster = await cluster_with_records(broker)
        broker.refuse(OFFSET_FETCH_REQUEST, [DENIED] * 100)
        collector, consumer = RecordCollector(), cluster.consumer(ATTEMPTS)
        serving = asyncio.create_task(consumer.run(collector))
        await until(lambda: consumer.is_away)
        with pytest.raises(ConsumerFailed, match="the last commits cannot be read"):
            await asyncio.wait_for(serving, SECONDS)
        assert collector.records == []
