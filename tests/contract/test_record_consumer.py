"""Members of a group read every record in order, through pauses, rebalances and restarts."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, TopicPartition

from contract.clusters import (
    EVERY_KAFKA,
    PARTITIONS,
    SECONDS,
    Cluster,
    FakeCluster,
    KafkaCluster,
    RecordCollector,
    cluster_on,
    numbered,
    running,
    until,
)
from fakes import FakeHandler, FakeKafka, FakeTelemetry
from real.kafka import Kafka
from streams.adapters.clock import SystemClock
from streams.core.errors import Unavailable
from streams.core.records.offset_tracker import Commit
from streams.outage import Outages
from streams.ports.kafka import Partition, Record, RecordConsumer
from streams.stages.consuming.partition_consumer import PartitionConsumer
from streams.topics import ATTEMPTS


@pytest.fixture(params=["fake", "embedded", *EVERY_KAFKA])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each kind of Kafka, and each protocol of groups."""
    cluster: Cluster = FakeCluster() if request.param == "fake" else request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(params=["embedded", *EVERY_KAFKA])
def kafka_cluster(request: pytest.FixtureRequest) -> KafkaCluster:
    cluster: KafkaCluster = request.getfixturevalue(request.param)
    return cluster


# Two keys on different partitions of three, both in Kafka and in the fake.
ONE, OTHER = b"21", b"a-little-bit-long-string"


def partition_consumer(consumer: RecordConsumer, work: Callable[[Record], Awaitable[None]]) -> PartitionConsumer:
    telemetry, clock = FakeTelemetry(), SystemClock()
    return PartitionConsumer(consumer, FakeHandler(work), FakeKafka(clock), clock, telemetry, Outages(telemetry))


class PausingHandler(RecordCollector):
    """Pauses the partition of a key at an offset once, as `PartitionConsumer` does for a record that is not due."""

    def __init__(self, consumer: RecordConsumer, key: bytes, offset: int) -> None:
        super().__init__()
        self.consumer, self.key, self.offset = consumer, key, offset
        self.paused: Partition | None = None
        self.was_paused = False
        self.received_while_paused = 0

    def on_received(self, records: Sequence[Record]) -> None:
        self.received_while_paused += any(record.partition == self.paused for record in records)
        for record in records:
            if (record.key, record.offset) == (self.key, self.offset) and not self.was_paused:
                self.paused, self.was_paused = record.partition, True
                self.consumer.pause(record.partition, self.offset)
            if record.partition != self.paused:
                self.records.append(record)

    def resume(self) -> None:
        assert self.paused
        self.consumer.resume(self.paused)
        self.paused = None


async def test_a_paused_partition_delays_no_other(cluster: Cluster) -> None:
    consumer = cluster.consumer(ATTEMPTS)
    handler = PausingHandler(consumer, ONE, 50)
    async with cluster.producer() as producer:
        await producer.produce(
            numbered(ATTEMPTS, 2000, key=ONE)
        )  # several batches, fetched before the pause takes effect
    async with cluster.producer() as producer, running(consumer.run(handler)):
        await until(lambda: handler.paused is not None)
        await producer.produce([*numbered(ATTEMPTS, 20, key=OTHER), *numbered(ATTEMPTS, 20, key=ONE)])
        await until(lambda: len(handler.records) == 50 + 20)
        one, other = handler.partition_of(ONE), handler.partition_of(OTHER)
        assert one != other
        assert (handler.offsets(one), handler.offsets(other)) == (list(range(50)), list(range(20)))
        assert not handler.received_while_paused
        handler.resume()
        await until(lambda: len(handler.records) >= 2020 + 20)
    assert handler.offsets(one) == list(range(2020))


class BusyHandler(RecordCollector):
    """Pauses its partitions after each batch, as a busy stage does, and resumes them soon."""

    def __init__(self, consumer: RecordConsumer) -> None:
        super().__init__()
        self.consumer = consumer
        self.received_while_paused = 0
        self.is_full = False

    def on_received(self, records: Sequence[Record]) -> None:
        self.received_while_paused += self.is_full
        super().on_received(records)
        self.is_full = True
        for partition in self.committed:
            self.consumer.pause(partition)

    def go_on(self) -> None:
        self.is_full = False
        for partition in self.committed:
            self.consumer.resume(partition)


@pytest.mark.slow
async def test_a_pause_without_rewind_loses_and_repeats_nothing(cluster: Cluster) -> None:
    consumer = cluster.consumer(ATTEMPTS)
    handler = BusyHandler(consumer)
    async with cluster.producer() as producer, running(consumer.run(handler)):
        await producer.produce(numbered(ATTEMPTS, 600))
        while len(handler.records) < 600:
            await until(lambda: handler.is_full)
            handler.go_on()
        await producer.produce(numbered(ATTEMPTS, 10))
        await until(lambda: handler.is_full)
    assert not handler.received_while_paused
    for partition in handler.committed:
        offsets = handler.offsets(partition)
        assert offsets == list(range(len(offsets)))


async def test_every_group_reads_everything(cluster: Cluster) -> None:
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 30))
    first, second = RecordCollector(), RecordCollector()
    async with (
        running(cluster.consumer(ATTEMPTS, "deliver").run(first)),
        running(cluster.consumer(ATTEMPTS, "record").run(second)),
    ):
        await until(lambda: len(first.records) == len(second.records) == 30)


class FailingHandler(RecordCollector):
    """Fails when a record arrives."""

    lists = 0

    def on_received(self, records: Sequence[Record]) -> None:
        self.lists += 1
        raise RuntimeError("a bug")


async def test_a_failed_handler_ends_the_consumer(cluster: Cluster) -> None:
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 3000))
    broken = FailingHandler()
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(cluster.consumer(ATTEMPTS).run(broken), SECONDS)
    assert broken.lists == 1
    handler = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(handler)):
        await until(lambda: len(handler.records) == 3000)


class FailingRevocation(RecordCollector):
    """Fails when a partition is revoked."""

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        raise RuntimeError("a bug")


async def test_a_handler_that_fails_a_revocation_ends_the_consumer(kafka_cluster: KafkaCluster) -> None:
    handler = FailingRevocation()
    feeding = asyncio.create_task(kafka_cluster.consumer(ATTEMPTS).run(handler))
    await until(lambda: bool(handler.committed))
    async with running(kafka_cluster.consumer(ATTEMPTS).run(RecordCollector())):
        with pytest.raises(RuntimeError, match="a bug"):
            await asyncio.wait_for(feeding, SECONDS)


async def test_the_next_member_gets_the_commit_with_its_metadata(cluster: Cluster) -> None:
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 10, key=b"one"))
    first, consumer = RecordCollector(), cluster.consumer(ATTEMPTS)
    async with running(consumer.run(first)):
        await until(lambda: len(first.records) == 10)
        partition = first.records[0].partition
        await consumer.commit({partition: Commit(3, "1:AAE=")})
        first.final_commits = {partition: Commit(4, "1:gA==")}
    second = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(second)):
        await until(lambda: bool(second.records))
    assert second.committed[partition] == Commit(4, "1:gA==")
    assert second.records[0].offset == 4


async def test_a_waiting_commit_does_not_hide_an_outage(own_kafka: Kafka) -> None:
    cluster, handler = cluster_on(own_kafka.bootstrap), RecordCollector()
    consumer = cluster.consumer(ATTEMPTS)
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 1))
    async with running(consumer.run(handler)):
        await until(lambda: bool(handler.records))
        partition, thread = handler.records[0].partition, consumer._thread
        assert thread
        # The broker takes the commit and does not answer.
        os.kill(own_kafka.pid, signal.SIGSTOP)
        try:
            committing = asyncio.create_task(consumer.commit({partition: Commit(1, "")}))
            await until(lambda: bool(thread.pending_commits))
            own_kafka.kill()
            await until(lambda: bool(consumer.readiness_problems()))
            assert not committing.done()
        finally:
            own_kafka.kill()
            await asyncio.to_thread(own_kafka.start)
        await asyncio.wait_for(committing, SECONDS)
        await until(lambda: not consumer.readiness_problems())
    async with running(consumer.run(second := RecordCollector())):
        await until(lambda: second.committed.get(partition) == Commit(1, ""))


async def test_a_member_that_left_cannot_commit(cluster: Cluster) -> None:
    async with cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 10, key=b"one"))
    first, consumer = RecordCollector(), cluster.consumer(ATTEMPTS)
    async with running(consumer.run(first)):
        await until(lambda: len(first.records) == 10)
    with pytest.raises(Unavailable):
        await consumer.commit({first.records[0].partition: Commit(10, "")})
    second = RecordCollector()
    async with running(cluster.consumer(ATTEMPTS).run(second)):
        await until(lambda: len(second.records) == 10)
    assert set(second.committed.values()) == {None}


async def test_a_revoked_partition_is_committed_before_the_handover(cluster: Cluster) -> None:
    first, second = RecordCollector(), RecordCollector()
    async with cluster.producer() as producer, running(cluster.consumer(ATTEMPTS).run(first)):
        await producer.produce(numbered(ATTEMPTS, 90))
        await until(lambda: len(first.records) == 90)
        ends = {partition: len(first.offsets(partition)) for partition in first.committed}
        first.final_commits = {partition: Commit(end, "1:gA==") for partition, end in ends.items()}
        async with running(cluster.consumer(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed))
            assert set(second.committed) < set(ends)
            assert set(second.committed) <= set(first.gone)
            assert second.committed == {partition: first.final_commits[partition] for partition in second.committed}
            await producer.produce(numbered(ATTEMPTS, 90))
            await until(lambda: len(first.records) + len(second.records) >= 180)
            assert {record.partition for record in second.records} == set(second.committed)
            for partition, end in ends.items():
                assert [*first.offsets(partition), *second.offsets(partition)] == list(range(2 * end))


class CommittingHandler(RecordCollector):
    """Commits during a revocation, as a stage with regular commits does."""

    def __init__(self, consumer: RecordConsumer) -> None:
        super().__init__()
        self.consumer = consumer
        self.commits: list[asyncio.Task[None]] = []

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self.commits.append(asyncio.create_task(self._commit({partition: Commit(1, "") for partition in partitions})))
        await asyncio.sleep(0)
        return await super().on_revoked(partitions, is_lost=is_lost)

    async def _commit(self, commits: Mapping[Partition, Commit]) -> None:
        with suppress(Unavailable):  # the commit may be too late
            await self.consumer.commit(commits)


async def test_the_last_commit_wins_over_an_older_one(cluster: Cluster) -> None:
    consumer, second = cluster.consumer(ATTEMPTS), RecordCollector()
    first = CommittingHandler(consumer)
    async with cluster.producer() as producer, running(consumer.run(first)):
        await producer.produce(numbered(ATTEMPTS, 90))
        await until(lambda: len(first.records) == 90)
        first.final_commits = {
            partition: Commit(len(first.offsets(partition)), "1:gA==") for partition in first.committed
        }
        async with running(cluster.consumer(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed))
            assert second.committed == {partition: first.final_commits[partition] for partition in second.committed}
            await asyncio.gather(*first.commits)


async def test_a_member_goes_on_at_the_commit_of_another(cluster: Cluster) -> None:
    first, second = RecordCollector(), RecordCollector()
    async with cluster.producer() as producer, running(cluster.consumer(ATTEMPTS).run(first)):
        await until(lambda: bool(first.committed))
        async with running(cluster.consumer(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed))
            await producer.produce(numbered(ATTEMPTS, 90))
            await until(lambda: len(first.records) + len(second.records) == 90)
            second.final_commits = {
                partition: Commit(len(second.offsets(partition)), "1:gA==") for partition in second.committed
            }
        await until(lambda: first.committed.items() >= second.final_commits.items())
        await producer.produce(numbered(ATTEMPTS, 90))
        await until(lambda: len(first.records) + len(second.records) >= 180)
        for partition in second.final_commits:
            offsets = [*second.offsets(partition), *first.offsets(partition)]
            assert offsets == list(range(len(offsets)))


@pytest.mark.slow
async def test_a_paused_partition_is_read_after_a_rebalance(cluster: Cluster) -> None:
    first, second, consumer = RecordCollector(), RecordCollector(), cluster.consumer(ATTEMPTS)
    async with cluster.producer() as producer, running(consumer.run(first)):
        await producer.produce(numbered(ATTEMPTS, 90))
        await until(lambda: len(first.records) == 90)
        ends = {partition: len(first.offsets(partition)) for partition in first.committed}
        first.final_commits = {partition: Commit(end, "") for partition, end in ends.items()}
        for partition, end in ends.items():
            consumer.pause(partition, end)
        async with running(cluster.consumer(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed))
        await producer.produce(numbered(ATTEMPTS, 90))
        back = set(second.committed)
        await until(lambda: all(len(first.offsets(partition)) == 2 * ends[partition] for partition in back))
        # Those that stayed are still paused; the classic protocol gives back all.
        if set(first.gone) == back:
            assert all(len(first.offsets(partition)) == ends[partition] for partition in ends.keys() - back)


async def test_a_newcomer_takes_its_own_partitions_alone(apache: KafkaCluster) -> None:
    first, second = RecordCollector(), RecordCollector()
    async with running(apache.consumer(ATTEMPTS).run(first)):
        await until(lambda: len(first.committed) == PARTITIONS)
        async with running(apache.consumer(ATTEMPTS).run(second)):
            await until(lambda: bool(second.committed))
            assert set(first.gone) == set(second.committed)


@pytest.mark.slow
async def test_a_retry_is_not_handled_before_it_is_due(cluster: Cluster) -> None:
    topic, late, taken = "deliveries.retry.1s", list[float](), RecordCollector()

    async def work(record: Record) -> None:
        due = record.appended_at + timedelta(seconds=1)
        late.append((datetime.now(UTC) - due).total_seconds())
        taken.on_received([record])

    consumer = cluster.consumer(topic)
    async with (
        cluster.producer() as producer,
        running(partition_consumer(consumer, work).run()),
    ):
        await producer.produce(numbered(topic, 20))
        await until(lambda: len(late) == 20)
        await producer.produce(numbered(topic, 20))
        await producer.produce(numbered(topic, 20))
        await until(lambda: len(late) == 60)
    assert min(late) >= 0
    for number in range(3):
        offsets = taken.offsets(Partition(topic, number))
        assert offsets == list(range(len(offsets)))


async def test_offsets_beyond_the_end_read_from_the_start(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(ATTEMPTS, 60))
    group = f"{kafka_cluster.prefix}group"
    setter = Consumer({**kafka_cluster.properties, "group.id": group, "enable.auto.commit": False})
    ends = [TopicPartition(kafka_cluster.prefix + ATTEMPTS, number, 2**62) for number in range(PARTITIONS)]
    setter.commit(offsets=ends, asynchronous=False)
    setter.close()
    taken: set[int] = set()

    async def take(record: Record) -> None:
        taken.add(int(record.value or b""))

    async with running(partition_consumer(kafka_cluster.consumer(ATTEMPTS), take).run()):
        await until(lambda: taken == set(range(60)))
