"""The past of `session-events` is read by time, on a real broker."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from contract.clusters import KafkaCluster, numbered, until
from streams.adapters.kafka import event_history as adapter
from streams.adapters.kafka.event_history import KafkaEventHistory
from streams.core.deliveries.backfill import OffsetRange, Period, remaining_ranges
from streams.core.errors import Unavailable
from streams.ports.kafka import Record
from streams.topics import SESSION_EVENTS


def history(cluster: KafkaCluster) -> KafkaEventHistory:
    return KafkaEventHistory(cluster.properties, cluster.prefix)


async def read_all(cluster: KafkaCluster, period: Period, at_once: int = 3) -> list[Record]:
    """Every record of the period, in portions."""
    ranges, records = tuple(one for one in period.ranges if one.start < one.end), list[Record]()
    async with asyncio.timeout(60):
        while ranges:
            portion = await history(cluster).read(ranges, at_once)
            assert len(portion.records) <= at_once
            records += portion.records
            ranges = remaining_ranges(ranges, portion.positions)
    return records


async def produce(cluster: KafkaCluster, start: int, count: int) -> list[datetime]:
    """Produce numbered records to several partitions. Returns their append times."""
    async with cluster.producer() as producer:
        return list(await producer.produce(numbered(SESSION_EVENTS, start + count)[start:]))


def values(records: list[Record]) -> list[int]:
    return sorted(int(record.value or b"") for record in records)


async def test_an_empty_topic_has_no_past(kafka_cluster: KafkaCluster) -> None:
    now = datetime.now(UTC)
    assert await history(kafka_cluster).period(now - timedelta(days=1), now) == Period((), None)


async def test_each_record_of_a_period_is_read_once(kafka_cluster: KafkaCluster) -> None:
    appended = await produce(kafka_cluster, 0, 10)
    period = await history(kafka_cluster).period(min(appended) - timedelta(hours=1), datetime.now(UTC))
    assert sum(one.end - one.start for one in period.ranges) == 10
    records = await read_all(kafka_cluster, period)
    assert values(records) == list(range(10))
    assert period.oldest_available == min(record.appended_at for record in records)
    assert {record.partition.topic for record in records} == {SESSION_EVENTS}


async def test_a_period_begins_at_its_time(apache: KafkaCluster) -> None:
    early = await produce(apache, 0, 10)
    # The broker's times are milliseconds.
    await until(lambda: datetime.now(UTC) > max(early) + timedelta(milliseconds=5))
    late = await produce(apache, 10, 5)
    now = datetime.now(UTC)
    assert values(await read_all(apache, await history(apache).period(min(late), now))) == list(range(10, 15))
    assert (
        await read_all(apache, await history(apache).period(now + timedelta(hours=1), now + timedelta(hours=2))) == []
    )
    # Another leader's clock may differ: an hour, not a second, before the first record has none.
    before = await history(apache).period(min(late) - timedelta(hours=2), min(late) - timedelta(hours=1))
    assert await read_all(apache, before) == []


async def test_offsets_that_no_topic_has_count_as_read(kafka_cluster: KafkaCluster) -> None:
    await produce(kafka_cluster, 0, 6)
    lost = (OffsetRange(0, 500, 900), OffsetRange(99, 0, 5))
    portion = await history(kafka_cluster).read(lost, 10)
    assert (portion.records, portion.positions) == ([], {0: 900, 99: 5})


async def test_a_large_portion_ends_early(kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "MAX_PORTION_BYTES", 1)
    await produce(kafka_cluster, 0, 4)
    now = datetime.now(UTC)
    period = await history(kafka_cluster).period(now - timedelta(hours=1), now + timedelta(minutes=1))
    assert len((await history(kafka_cluster).read(period.ranges, 10)).records) == 1
    assert values(await read_all(kafka_cluster, period)) == list(range(4))


async def test_a_missing_topic_says_what_to_do(kafka_cluster: KafkaCluster) -> None:
    now = datetime.now(UTC)
    with pytest.raises(Unavailable, match="scorm-webhooks topics apply"):
        await KafkaEventHistory(kafka_cluster.properties, "nothing-here.").period(now - timedelta(days=1), now)
