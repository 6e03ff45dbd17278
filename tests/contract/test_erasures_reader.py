"""`deliver` knows every erasure of the topic before it is ready, follows it, and waits when it cannot."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from builders import NOON
from contract.clusters import SECONDS, KafkaCluster, cluster_on, running, until
from contract.learners import ADA, of_learner
from fakes import FakeEncryption, FakeTelemetry, quiet
from real.kafka import Kafka
from streams.adapters.kafka.compacted import erasures_reader
from streams.adapters.kafka.compacted.erasure_history import KafkaErasureHistory
from streams.adapters.kafka.compacted.erasures_reader import ErasuresReader
from streams.adapters.kafka.connection.config import subscriptions_config
from streams.core.encryption import WRONG_KEYS_MESSAGE
from streams.core.erasures.erasure import ErasedLearner, hash_key_id, key_to_text, learner_hash
from streams.core.erasures.erasure_record import (
    encode_erasure,
    encode_hash_key,
    encode_version,
    erasure_key,
    hash_key_key,
)
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.topics import ERASURES

KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def reader_of(cluster: KafkaCluster, telemetry: FakeTelemetry | None = None) -> ErasuresReader:
    telemetry = telemetry or FakeTelemetry()
    config = subscriptions_config(cluster.properties)
    return ErasuresReader(config, cluster.prefix, telemetry, Outages(telemetry), FakeEncryption().decrypt)


def key(secret: bytes = KEY, ciphertext: str | None = None) -> Outgoing:
    value = encode_hash_key(ciphertext or FakeEncryption().encrypt(key_to_text(secret)))
    return Outgoing(ERASURES, hash_key_key(hash_key_id(secret)).encode(), value)


def erased(learner: str = ADA, secret: bytes = KEY) -> ErasedLearner:
    return ErasedLearner("acme", learner_hash(secret, "acme", learner).hex(), hash_key_id(secret), NOON)


def erasure(one: ErasedLearner) -> Outgoing:
    return Outgoing(ERASURES, erasure_key(one.account_id, one.learner_hash).encode(), encode_erasure(one))


def tombstone(one: ErasedLearner) -> Outgoing:
    name = erasure_key(one.account_id, one.learner_hash).encode()
    return Outgoing(ERASURES, name, None, (encode_version(one.erased_at),))


def sentinel(live: int, incarnation: str = "one") -> Outgoing:
    return Outgoing(ERASURES, SENTINEL_KEY.encode(), Sentinel(incarnation, live).encode())


@asynccontextmanager
async def reading(cluster: KafkaCluster, *records: Outgoing) -> AsyncIterator[ErasuresReader]:
    """A reader of a topic with these records."""
    reader = reader_of(cluster)
    async with cluster.producer() as producer:
        await producer.produce(records)
    async with running(reader.run()):
        yield reader


async def is_erased(reader: ErasuresReader, number: int = 1, learner: str = ADA, account_id: str = "acme") -> bool:
    return await asyncio.wait_for(reader.is_erased(of_learner(number, learner, account_id=account_id)), SECONDS)


async def test_the_reader_is_ready_with_all_that_the_sentinel_counts(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster, key(), erasure(erased())) as reader, kafka_cluster.producer() as producer:
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        unread = ["the erasures are not all read yet (topic erasures)"]
        assert reader.readiness_problems() == unread
        await producer.produce([sentinel(2)])
        await until(lambda: reader.table.sentinel is not None)
        assert reader.readiness_problems() == unread
        await producer.produce([erasure(erased("grace"))])
        await asyncio.wait_for(reader.wait_until_ready(), SECONDS)
        assert reader.readiness_problems() == []
        assert await is_erased(reader)
        assert await is_erased(reader, learner="grace")
        assert not await is_erased(reader, learner="alan")
        assert not await is_erased(reader, account_id="globex")


async def test_nothing_is_decided_before_the_topic_is_read(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster, key()) as reader, kafka_cluster.producer() as producer:
        decision = asyncio.create_task(is_erased(reader))
        await asyncio.wait_for(reader.wait_until_read(), SECONDS)
        assert not decision.done()
        await producer.produce([erasure(erased()), sentinel(1)])
        assert await decision


async def test_a_later_erasure_is_known_in_two_seconds(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster, sentinel(0)) as reader, kafka_cluster.producer() as producer:
        assert not await is_erased(reader)
        await producer.produce([key(), erasure(erased())])
        published_at = time.monotonic()
        while not await is_erased(reader):
            assert time.monotonic() - published_at <= erasures_reader.MAX_STALENESS_SECONDS


async def test_a_forgotten_erasure_is_not_known(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster, key(), erasure(erased()), sentinel(0), tombstone(erased())) as reader:
        assert not await is_erased(reader)
        assert len(reader.table) == 0


async def test_an_erasure_is_known_under_every_key(kafka_cluster: KafkaCluster) -> None:
    records = [key(), erasure(erased()), key(OTHER_KEY), erasure(erased("grace", OTHER_KEY)), sentinel(2)]
    async with reading(kafka_cluster, *records) as reader:
        assert await is_erased(reader)
        assert await is_erased(reader, learner="grace")


async def test_an_erasure_without_its_key_is_waited_for(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster, erasure(erased()), sentinel(1)) as reader, kafka_cluster.producer() as producer:
        await until(lambda: reader.table.is_complete())
        assert not reader.is_ready
        await producer.produce([key()])
        assert await is_erased(reader)


async def test_a_key_that_nothing_decrypts_is_a_readiness_problem(kafka_cluster: KafkaCluster) -> None:
    locked = key(ciphertext="of another deployment")
    async with reading(kafka_cluster, locked, sentinel(0)) as reader, kafka_cluster.producer() as producer:
        await until(lambda: reader.readiness_problems() == [WRONG_KEYS_MESSAGE])
        # After `db reencrypt` the publisher writes it again.
        await producer.produce([key()])
        await until(lambda: reader.readiness_problems() == [])


async def test_a_record_of_a_newer_release_is_waited_for(kafka_cluster: KafkaCluster) -> None:
    newer = Outgoing(
        ERASURES, erasure(erased()).key, b'{"erasedAt": 1, "hashKeyId": "0123456789abcdef", "reason": "new"}'
    )
    async with reading(kafka_cluster, key(), newer, sentinel(0)) as reader, kafka_cluster.producer() as producer:
        problem = ["erasures: a newer release wrote 1 records; upgrade this stage"]
        await until(lambda: reader.readiness_problems() == problem)
        await producer.produce([erasure(erased())])
        assert await is_erased(reader)


async def test_an_invalid_record_is_counted_and_skipped(kafka_cluster: KafkaCluster) -> None:
    telemetry = FakeTelemetry()
    reader = reader_of(kafka_cluster, telemetry)
    async with kafka_cluster.producer() as producer, running(reader.run()):
        wrong_key = Outgoing(ERASURES, key().key, key(OTHER_KEY).value)
        nobodys = Outgoing(ERASURES, b"nobody's", b"{}")
        await producer.produce([key(), erasure(erased()), wrong_key, nobodys, sentinel(1)])
        assert await is_erased(reader)
        assert telemetry.counts["erasures_invalid_total"] == 2


async def test_the_history_has_every_erasure_portion_by_portion(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.adapters.kafka.compacted.erasure_history.PORTION_RECORDS", 7)
    many = [erased(f"learner-{number}") for number in range(50)]
    async with kafka_cluster.producer() as producer:
        await producer.produce([key(), *map(erasure, many), tombstone(many[0]), sentinel(49)])
    history = KafkaErasureHistory(kafka_cluster.properties, kafka_cluster.prefix)
    found: list[ErasedLearner] = []
    offset: int | None = 0
    while offset is not None:
        portion, offset = await history.read(offset)
        found += portion
    assert found == many
    assert await history.read(53) == ([], None)


async def test_a_reader_without_a_broker_decides_nothing(own_kafka: Kafka, topic_prefix: str) -> None:
    cluster = cluster_on(own_kafka.bootstrap, topic_prefix)
    async with reading(cluster, key(), sentinel(0)) as reader:
        assert not await is_erased(reader)
        own_kafka.kill()
        await until(lambda: not reader.is_current())
        decision = asyncio.create_task(is_erased(reader))
        await quiet()
        assert not decision.done()
        own_kafka.start()
        assert not await decision
