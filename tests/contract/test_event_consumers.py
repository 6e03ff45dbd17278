"""Faust and librdkafka hand over every event until its batch is done, whatever interrupts them."""

import asyncio
from collections.abc import Sequence

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from contract.clusters import (
    KEYS,
    PARTITIONS,
    SECONDS,
    KafkaCluster,
    assert_once_and_in_order,
    numbered,
    produce_backlog,
    running,
    until,
)
from fakes import EventConsumer
from streams.adapters.faust.client import FaustClient, FaustCrashed
from streams.adapters.kafka.admin.group_members import FAUST_CLIENT_PREFIX, GroupMembers
from streams.adapters.kafka.consuming import consumer_thread
from streams.adapters.kafka.consuming.consumer_thread import ConsumerFailed
from streams.ports.kafka import Outgoing, Partition, Record
from streams.stages.consuming import event_reader
from streams.stages.consuming.read_ahead import LARGE_BATCH
from streams.topics import SESSION_EVENTS

pytestmark = pytest.mark.slow

# A window that gets full several times. After each pause of all partitions, librdkafka fetches half a second later.
ROOM = 1000
BACKLOG = 6000
CLIENTS = ["faust", "librdkafka"]
COMPRESSIONS = ("none", "gzip", "lz4", "snappy", "zstd")


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Handled:
    """Handles every batch, and keeps its records."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def __call__(self, records: Sequence[Record]) -> None:
        self.records.extend(records)

    @property
    def numbers(self) -> list[int]:
        return [int(record.value or b"") for record in self.records]


async def test_every_compression_is_read(kafka_cluster: KafkaCluster, client: str) -> None:
    for codec in COMPRESSIONS:
        producer = Producer({**kafka_cluster.properties, "compression.type": codec, "linger.ms": 50})
        for number in range(50):
            producer.produce(kafka_cluster.prefix + SESSION_EVENTS, b"%s %d " % (codec.encode(), number) + b"x" * 200)
        assert producer.flush(30) == 0
    handled = Handled()
    async with running(kafka_cluster.event_consumer(client).run(handled)):
        await until(lambda: len({record.value for record in handled.records}) == 50 * len(COMPRESSIONS))


async def test_a_member_is_ready_once_it_has_partitions(kafka_cluster: KafkaCluster, client: str) -> None:
    consumer, handled = kafka_cluster.event_consumer(client), Handled()
    assert consumer.readiness_problems()
    async with running(consumer.run(handled)):
        await until(lambda: not consumer.readiness_problems())
        async with kafka_cluster.producer() as producer:
            await producer.produce([Outgoing(SESSION_EVENTS, key, key) for key in KEYS])
        await until(lambda: len({record.partition for record in handled.records}) == PARTITIONS)


async def test_a_failed_batch_ends_the_run_and_is_read_again(kafka_cluster: KafkaCluster, client: str) -> None:
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
        await asyncio.wait_for(kafka_cluster.event_consumer(client).run(half), SECONDS)
    handled = Handled()
    async with running(kafka_cluster.event_consumer(client).run(handled)):
        await until(lambda: done | set(handled.numbers) == set(range(500)))


async def test_a_cancel_in_mid_batch_loses_nothing(kafka_cluster: KafkaCluster, client: str) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 300))
    in_hand, handled = list[Record](), Handled()

    async def never_done(records: Sequence[Record]) -> None:
        in_hand.extend(records)
        await asyncio.Event().wait()

    async with running(kafka_cluster.event_consumer(client).run(never_done)):
        await until(lambda: bool(in_hand))
    async with running(kafka_cluster.event_consumer(client).run(handled)):
        await until(lambda: set(handled.numbers) == set(range(300)))


async def test_a_full_window_keeps_each_event_once(kafka_cluster: KafkaCluster, client: str) -> None:
    produce_backlog(kafka_cluster, BACKLOG)
    consumer, done = with_small_window(kafka_cluster.event_consumer(client)), list[Record]()

    async def handle(records: Sequence[Record]) -> None:
        if not done:
            await until(lambda: consumer.reader._read_ahead.is_full)
        done.extend(records)

    async with running(consumer.run(handle)):
        await until(lambda: len(done) >= BACKLOG)
    assert_once_and_in_order(done, BACKLOG)


async def test_a_stop_commits_what_was_done(kafka_cluster: KafkaCluster, client: str) -> None:
    handled = Handled()
    async with kafka_cluster.producer() as producer:
        for number in range(3):
            async with running(kafka_cluster.event_consumer(client).run(handled)):
                await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"%d" % number)])
                await until(lambda number=number: number in handled.numbers)  # type: ignore[misc]
    assert handled.numbers == [0, 1, 2]


async def test_a_drained_member_starts_no_other_batch(kafka_cluster: KafkaCluster, client: str) -> None:
    consumer, handled, released = kafka_cluster.event_consumer(client), Handled(), asyncio.Event()

    async def slow(records: Sequence[Record]) -> None:
        await handled(records)
        await released.wait()

    async with kafka_cluster.producer() as producer:
        async with running(consumer.run(slow)):
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"0")])
            await until(lambda: bool(handled.records))
            draining = asyncio.create_task(consumer.drain(SECONDS))
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"1")])
            released.set()
            await draining
        assert handled.numbers == [0]
        async with running(kafka_cluster.event_consumer(client).run(handled)):
            await until(lambda: len(handled.numbers) == 2)
    assert handled.numbers == [0, 1]


@pytest.mark.real
async def test_an_event_behind_a_burst_has_its_turn(apache: KafkaCluster, client: str) -> None:
    produce_backlog(apache, BACKLOG)
    async with apache.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"other") for key in KEYS])
    consumer, done = apache.event_consumer(client), list[bytes | None]()

    async def handle(records: Sequence[Record]) -> None:
        # All is read by the end of the first batch.
        await until(lambda: len(consumer.reader._read_ahead) + len(done) >= BACKLOG + len(KEYS))
        done.extend(record.value for record in records)

    async with running(consumer.run(handle, account_of=account_of)):
        await until(lambda: len(done) == BACKLOG + len(KEYS))
    before = [index for index, value in enumerate(done) if value == b"other"]
    assert len(before) == len(KEYS)
    assert max(before) < 2 * LARGE_BATCH


@pytest.mark.real
async def test_a_kill_within_a_burst_loses_nothing_of_it(apache: KafkaCluster, client: str) -> None:
    """The events of others are done and behind it: a commit must not pass the burst."""
    produce_backlog(apache, BACKLOG)
    async with apache.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"other") for key in KEYS])
    consumer, done, again = apache.event_consumer(client), list[bytes | None](), Handled()

    async def only_one_of_the_burst(records: Sequence[Record]) -> None:
        if done:
            await until(lambda: len(consumer.reader._read_ahead) + len(done) >= BACKLOG + len(KEYS))
        if b"other" in done:
            await asyncio.Event().wait()
        done.extend(record.value for record in records)

    async with running(
        consumer.run(only_one_of_the_burst, account_of=account_of, deliveries_per_event=lambda _: LARGE_BATCH)
    ):
        await until(lambda: b"other" in done and len(done) > 1)
    async with running(apache.event_consumer(client).run(again, account_of=account_of)):
        await until(lambda: len({*done, *(record.value for record in again.records)}) == BACKLOG + 1)


def account_of(value: bytes) -> str:
    return "other" if value == b"other" else "burst"


@pytest.mark.real
async def test_a_member_that_joins_a_full_one_loses_nothing(apache: KafkaCluster, client: str) -> None:
    # The embedded broker may reject two classic members that join at once.
    produce_backlog(apache, BACKLOG)
    first, second = with_small_window(apache.event_consumer(client)), apache.event_consumer(client)
    done: set[int] = set()
    joined = asyncio.Event()

    async def with_full_window(records: Sequence[Record]) -> None:
        if not joined.is_set():
            await until(lambda: first.reader._read_ahead.is_full)
            await joined.wait()
        done.update(int(record.value or b"") for record in records)

    async def newcomer(records: Sequence[Record]) -> None:
        joined.set()
        done.update(int(record.value or b"") for record in records)

    async with running(first.run(with_full_window)):
        await until(lambda: first.reader._read_ahead.is_full)
        async with running(second.run(newcomer)):
            await until(lambda: joined.is_set() and done == set(range(BACKLOG)))


@pytest.mark.real
@pytest.mark.parametrize("in_hand", [False, True], ids=["done", "in hand"])
async def test_a_member_that_joins_repeats_nothing(apache: KafkaCluster, client: str, in_hand: bool) -> None:
    """What was not committed before is committed when partitions are revoked."""
    first, second = (apache.event_consumer(client, commit_interval_seconds=3600) for _ in range(2))
    done: list[int] = []

    async def handle(records: Sequence[Record]) -> None:
        if in_hand:
            await until(lambda: gives_back(first))
        done.extend(int(record.value or b"") for record in records)

    newcomer = Handled()
    async with apache.producer() as producer, running(first.run(handle)):
        await until(lambda: not first.readiness_problems())
        await producer.produce(numbered(SESSION_EVENTS, 300))
        await until(lambda: in_hand or len(done) == 300)
        async with running(second.run(newcomer)):
            await until(lambda: not second.readiness_problems())
            await producer.produce([Outgoing(SESSION_EVENTS, key, b"300") for key in KEYS])
            await until(lambda: [*done, *newcomer.numbers].count(300) == len(KEYS))
    done += newcomer.numbers
    assert sorted(set(done)) == list(range(301))
    assert len(done) == 300 + len(KEYS)


def gives_back(consumer: EventConsumer) -> bool:
    """Whether the member has been asked to give partitions back."""
    if isinstance(consumer.client, FaustClient):
        return consumer.client._app.rebalancing_count > 1
    return len(consumer.reader._assigned_partitions) < PARTITIONS


@pytest.mark.real
async def test_a_batch_that_does_not_end_holds_up_no_member(apache: KafkaCluster, client: str) -> None:
    first, second = apache.event_consumer(client), apache.event_consumer(client)
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


async def test_offsets_beyond_the_end_lose_no_event(kafka_cluster: KafkaCluster, client: str) -> None:
    """After deleted records, or offsets that a person set, a member starts at the earliest event."""
    async with kafka_cluster.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 30))
    group = f"{kafka_cluster.prefix}fan-out"
    setter = Consumer({**kafka_cluster.properties, "group.id": group, "enable.auto.commit": False})
    ends = [TopicPartition(kafka_cluster.prefix + SESSION_EVENTS, number, 1000) for number in range(PARTITIONS)]
    setter.commit(offsets=ends, asynchronous=False)
    handled, again = Handled(), Handled()

    def committed() -> int:
        return sum(found.offset for found in setter.committed(ends, timeout=SECONDS))

    async with running(kafka_cluster.event_consumer(client).run(handled)):
        await until(lambda: set(handled.numbers) == set(range(30)))
        later = range(100, 100 + len(KEYS))
        async with kafka_cluster.producer() as producer:
            await producer.produce(
                [Outgoing(SESSION_EVENTS, key, b"%d" % n) for n, key in zip(later, KEYS, strict=True)]
            )
        await until(lambda: committed() == 30 + len(later))
    setter.close()
    assert set(later) <= set(handled.numbers)
    async with kafka_cluster.producer() as producer:
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"200") for key in KEYS])
    async with running(kafka_cluster.event_consumer(client).run(again)):
        await until(lambda: 200 in again.numbers)
    assert set(again.numbers) == {200}


def with_small_window(consumer: EventConsumer) -> EventConsumer:
    consumer.reader._read_ahead._max_events = ROOM
    return consumer


def test_a_whole_handover_means_that_more_may_be_there() -> None:
    assert event_reader.LARGE_FETCH_RECORDS <= consumer_thread.MAX_POLL_RECORDS


# -- from one client to the other ------------------------------------------------------------------------------

OTHER = {"faust": "librdkafka", "librdkafka": "faust"}
REFUSALS = {
    "faust": (FaustCrashed, "InconsistentGroupProtocol"),
    "librdkafka": (ConsumerFailed, "The group id does not exist"),
}


@pytest.mark.real
async def test_a_switch_goes_on_at_the_committed_offsets(apache: KafkaCluster, client: str) -> None:
    before, after = Handled(), Handled()
    async with apache.producer() as producer:
        await producer.produce(numbered(SESSION_EVENTS, 30))
        async with running(apache.event_consumer(OTHER[client]).run(before)):
            await until(lambda: len(before.records) == 30)
        await producer.produce([Outgoing(SESSION_EVENTS, key, b"100") for key in KEYS])
        async with running(apache.event_consumer(client).run(after)):
            await until(lambda: len(after.records) >= len(KEYS))
    assert after.numbers == [100] * len(KEYS)


@pytest.mark.real
async def test_a_member_beside_the_other_client_ends(apache: KafkaCluster, client: str) -> None:
    """Its process starts again, and waits until the group is free. The others go on."""
    members, handled = GroupMembers(apache.properties, f"{apache.prefix}fan-out"), Handled()
    error, message = REFUSALS[client]
    other = apache.event_consumer(OTHER[client])
    async with apache.producer() as producer, running(other.run(handled)):
        await until(lambda: not other.readiness_problems())
        assert [one.startswith(FAUST_CLIENT_PREFIX) for one in await asyncio.to_thread(members.client_ids)] == [
            client != "faust"
        ]
        with pytest.raises(error, match=message):
            await asyncio.wait_for(apache.event_consumer(client).run(Handled()), SECONDS)
        await producer.produce(numbered(SESSION_EVENTS, 30))
        await until(lambda: len(handled.records) == 30)
    assert await asyncio.to_thread(members.client_ids) == []
