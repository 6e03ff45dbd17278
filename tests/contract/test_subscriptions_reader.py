"""The reader of subscriptions says why it is not ready, and ends when the topic is recreated."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from builders import webhook
from contract.clusters import CODEC, SECONDS, KafkaCluster, cluster_on, running, until
from fakes import NEWER_CODEC
from real.kafka import Kafka
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.kafka.compacted import broker_clock, compacted_topic_reader
from streams.adapters.kafka.compacted.end_offset import EndOffset, TopicReaderFailed
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.outage import BROKER_AWAY
from streams.ports.kafka import Outgoing, RecordValue
from streams.topics import SUBSCRIPTIONS


def sentinel(live: int, check: str | None = None) -> Outgoing:
    return Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", live, check).encode())


async def test_the_reader_is_ready_only_with_a_sentinel(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader()
    async with kafka_cluster.producer() as producer, running(reader.run()):
        await producer.produce([Outgoing(SUBSCRIPTIONS, b"wh_0", CODEC.encode(webhook(id="wh_0")))])
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        assert not reader.is_ready
        assert "not all read yet" in reader.readiness_problems()[0]
        await producer.produce([sentinel(1)])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        assert reader.readiness_problems() == []


async def test_webhooks_of_a_newer_release_are_a_readiness_problem(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader()
    async with kafka_cluster.producer() as producer, running(reader.run()):
        await producer.produce([sentinel(1), Outgoing(SUBSCRIPTIONS, b"wh_0", NEWER_CODEC.encode(webhook(id="wh_0")))])
        newer = ["subscriptions: a newer release wrote the records of 1 webhooks; upgrade this stage"]
        await until(lambda: reader.readiness_problems() == newer)
        await producer.produce([Outgoing(SUBSCRIPTIONS, b"wh_0", CODEC.encode(webhook(id="wh_0")))])
        await until(lambda: reader.readiness_problems() == [])


async def test_many_events_ask_seldom_where_the_topic_ends(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, beyond = [], EndOffset.find_end

    async def counted(self: EndOffset, read: int) -> int:
        asked.append(read)
        return await beyond(self, read)

    reader = kafka_cluster.reader()
    async with kafka_cluster.producer() as producer, running(reader.run()):
        await producer.produce([sentinel(0)])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        monkeypatch.setattr(EndOffset, "find_end", counted)
        for _ in range(1000):
            await reader.catch_up(3600)
        assert len(asked) == 1
        await reader.catch_up()
        assert len(asked) == 2


class FastClock:
    """A clock that is ten minutes fast."""

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(minutes=10)


async def test_a_stage_whose_clock_is_wrong_is_not_ready_and_says_so(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader(clock=FastClock())
    async with kafka_cluster.producer() as producer, running(reader.run()):
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        await producer.produce([sentinel(0)])
        await until(lambda: reader.table.is_complete())
        assert not reader.is_ready
        assert "clock is +600 s off" in reader.readiness_problems()[0]


async def test_after_an_old_sentinel_a_stage_waits_for_the_next(
    kafka_cluster: KafkaCluster,
) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce([sentinel(0)])
        reader = kafka_cluster.reader(clock=FastClock())
        async with running(reader.run()):
            await asyncio.wait_for(reader.wait_until_read(), SECONDS)
            await until(lambda: reader.table.is_complete())
            assert not reader.is_ready
            assert "either this machine's clock is fast or `publish` is away" in reader.readiness_problems()[0]
            await producer.produce([sentinel(0)])
            await until(lambda: "clock is +600 s off" in reader.readiness_problems()[0])


async def test_a_stage_goes_on_without_a_publisher(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_clock, "SENTINEL_TIMEOUT_SECONDS", 0.2)
    async with kafka_cluster.producer() as producer:
        await producer.produce([sentinel(0)])
    reader = kafka_cluster.reader(clock=FastClock())
    async with running(reader.run()):
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        assert reader.readiness_problems() == []


async def test_a_record_appended_during_a_question_is_harmless(
    kafka_cluster: KafkaCluster,
) -> None:
    reader, done = kafka_cluster.reader(), asyncio.Event()

    async def ask_again_and_again() -> None:
        while not done.is_set():
            await reader.catch_up()

    async with kafka_cluster.producer() as producer, running(reader.run()):
        await producer.produce([sentinel(0)])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        asking = [asyncio.create_task(ask_again_and_again()) for _ in range(4)]
        for _ in range(300):
            await producer.produce([sentinel(0)])
        done.set()
        await asyncio.wait_for(asyncio.gather(*asking), SECONDS)


@pytest.fixture
def _watches_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compacted_topic_reader, "WATCH_INTERVAL_SECONDS", 0.2)


@pytest.mark.usefixtures("_watches_often")
async def test_a_silently_recreated_topic_ends_the_reader(own_kafka: Kafka) -> None:
    admin = AdminClient({"bootstrap.servers": own_kafka.bootstrap})
    admin.create_topics([NewTopic(SUBSCRIPTIONS, 1, 1)])[SUBSCRIPTIONS].result(SECONDS)
    # A restart of a broker raises the leader epoch of its partitions. A recreated topic starts at the first epoch.
    own_kafka.kill()
    own_kafka.start()
    cluster = KafkaCluster({"bootstrap.servers": own_kafka.bootstrap}, "")
    reader = cluster.reader()
    async with cluster.producer() as producer:
        await producer.produce([sentinel(0), sentinel(0)])
    running = asyncio.create_task(reader.run())
    await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
    admin.delete_topics([SUBSCRIPTIONS])[SUBSCRIPTIONS].result(SECONDS)
    await until(lambda: SUBSCRIPTIONS not in admin.list_topics(timeout=SECONDS).topics)
    admin.create_topics([NewTopic(SUBSCRIPTIONS, 1, 1)])[SUBSCRIPTIONS].result(SECONDS)
    with pytest.raises(TopicReaderFailed, match="was recreated"):
        await asyncio.wait_for(running, SECONDS)


@pytest.mark.usefixtures("_watches_often")
async def test_the_reader_is_not_ready_while_the_broker_is_away(own_kafka: Kafka) -> None:
    cluster = cluster_on(own_kafka.bootstrap)
    reader = cluster.reader()
    async with cluster.producer() as producer:
        await producer.produce([sentinel(0)])
        async with running(reader.run()):
            await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
            own_kafka.kill()
            await until(lambda: reader.readiness_problems() == [BROKER_AWAY])
            own_kafka.start()
            await until(lambda: reader.readiness_problems() == [])


async def test_a_bug_in_the_thread_ends_the_reader(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader()
    reader._thread._batch_records = None  # type: ignore[assignment]
    async with kafka_cluster.producer() as producer:
        await producer.produce([sentinel(0)])
    with pytest.raises(TypeError):
        await asyncio.wait_for(reader.run(), SECONDS)


async def test_a_sentinel_of_another_incarnation_ends_the_reader(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader()
    async with kafka_cluster.producer() as producer:
        await producer.produce([sentinel(0)])
        running = asyncio.create_task(reader.run())
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        await producer.produce([Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("two", 0).encode())])
        with pytest.raises(TopicReaderFailed, match="another incarnation"):
            await asyncio.wait_for(running, SECONDS)


class BrokenCodec(AvroCodec):
    """A codec with a bug."""

    def decode(self, value: bytes) -> RecordValue:
        raise RuntimeError("a bug")


async def test_a_bug_while_reading_ends_the_reader(kafka_cluster: KafkaCluster) -> None:
    async with kafka_cluster.producer() as producer:
        await producer.produce([Outgoing(SUBSCRIPTIONS, b"wh_0", CODEC.encode(webhook(id="wh_0"))), sentinel(1)])
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(kafka_cluster.reader(codec=BrokenCodec()).run(), SECONDS)


async def test_without_the_right_encryption_keys_a_stage_is_not_ready(kafka_cluster: KafkaCluster) -> None:
    reader = kafka_cluster.reader(opens_check=lambda ciphertext: ciphertext == "ours")
    async with kafka_cluster.producer() as producer, running(reader.run()):
        await producer.produce([sentinel(0, "theirs")])
        await until(lambda: any("SCORM_WEBHOOKS_ENCRYPTION_KEYS" in problem for problem in reader.readiness_problems()))
        assert not reader.is_ready
        await producer.produce([sentinel(0, "ours")])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
