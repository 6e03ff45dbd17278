"""Faust, with our changes of it, loses nothing where it would by itself. `test_event_consumers` has the rest."""

import asyncio
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import GroupAuthorizationFailedError, IllegalStateError

from contract.clusters import (
    KEYS,
    SECONDS,
    KafkaCluster,
    RecordCollector,
    assert_once_and_in_order,
    produce_backlog,
    running,
    until,
)
from fakes import EventConsumer, FakeTelemetry, cancel_others
from streams.adapters.faust import patches
from streams.adapters.faust.client import FaustClient, FaustCrashed
from streams.core.errors import Unavailable
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Outgoing, Partition, Record, RecordProducer
from streams.topics import SESSION_EVENTS

pytestmark = pytest.mark.slow

# Only a small buffer gets full.
ROOM = 50
BACKLOG = 6000


class RunningStage(NamedTuple):
    stage: FaustClient
    producer: RecordProducer
    done: list[bytes | None]
    serving: asyncio.Task[None]


async def test_a_stage_makes_no_file(
    kafka_cluster: KafkaCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    stage = kafka_cluster.faust()

    async def handle(records: Sequence[Record]) -> None:
        """There are no records."""

    async with running(EventConsumer(stage).run(handle)):
        await until(lambda: not stage.readiness_problems())
    assert names_in(tmp_path) == []


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def test_a_full_buffer_keeps_each_event_once_and_in_order(kafka_cluster: KafkaCluster) -> None:
    produce_backlog(kafka_cluster, BACKLOG)
    stage = kafka_cluster.faust()
    stage._buffer.max_events = ROOM
    consumer = EventConsumer(stage)
    consumer.reader._read_ahead._max_events = ROOM
    done: list[Record] = []

    async def handle(records: Sequence[Record]) -> None:
        if not done:
            await until(lambda: stage._buffer.is_full)
        done.extend(records)

    async with running(consumer.run(handle)):
        await until(lambda: len(done) >= BACKLOG)
    assert_once_and_in_order(done, BACKLOG)


def impatient_client(telemetry: FakeTelemetry) -> FaustClient:
    properties = {"bootstrap.servers": "127.0.0.1:1"}
    return FaustClient(properties, "fan-out", SESSION_EVENTS, "", None, telemetry, commit_timeout_seconds=0.01)


async def test_a_last_commit_without_an_answer_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(patches, "commit", hangs)
    telemetry = FakeTelemetry()
    stage = impatient_client(telemetry)
    stage._handler = RecordCollector()
    await asyncio.wait_for(stage._on_revoked(), SECONDS)
    assert [event for event, _ in telemetry.logged] == ["last_commit_failed"]


async def test_a_commit_without_an_answer_keeps_no_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """They would fill the memory while the group's coordinator is away."""
    begun, acknowledged = list[object](), list[int]()

    async def hangs(app: object) -> None:
        begun.append(app)
        await asyncio.Event().wait()

    class Stream:
        async def ack(self, event: Any) -> None:
            acknowledged.append(event.message.offset)

    monkeypatch.setattr(patches, "commit", hangs)
    client = impatient_client(FakeTelemetry())
    partition, client._stream = Partition(SESSION_EVENTS, 0), Stream()
    events = [SimpleNamespace(message=SimpleNamespace(offset=offset)) for offset in range(250)]
    client._unacknowledged[partition] = deque(cast("list[Any]", events))
    for end in (200, 240):
        with pytest.raises(Unavailable, match="did not answer a commit in time"):
            await client.commit({partition: Commit(end, "")})
    assert acknowledged == list(range(240))
    assert (len(client._unacknowledged[partition]), len(begun)) == (10, 1)
    await cancel_others()


async def test_events_dropped_in_a_rebalance_are_read_again(
    kafka_cluster: KafkaCluster,
) -> None:
    """Faust drops them in a rebalance after a topic grew, and seeks to the committed offset, which does not exist."""
    async with reading(kafka_cluster) as (stage, producer, done, _serving):
        for key in KEYS[1:]:
            dropped = await drop(stage, key)
            await producer.produce([Outgoing(SESSION_EVENTS, key, key)])
            await asyncio.wait_for(dropped.wait(), SECONDS)
            await until(partial(done.__contains__, key))


async def test_a_stage_that_cannot_seek_back_ends(kafka_cluster: KafkaCluster) -> None:
    async def broken() -> None:
        raise GroupAuthorizationFailedError("the group")

    async with reading(kafka_cluster) as (stage, producer, _done, serving):
        consumer(stage)._thread.seek_to_committed = broken
        await drop(stage, b"key")
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"key")])
        with pytest.raises(FaustCrashed, match="the group"):
            await asyncio.wait_for(asyncio.shield(serving), SECONDS)


async def test_a_stage_goes_on_when_a_rebalance_interrupts_a_seek(kafka_cluster: KafkaCluster) -> None:
    async with reading(kafka_cluster) as (stage, producer, done, _serving):
        go_back, assignment = consumer(stage)._thread.seek_to_committed, consumer(stage).assignment

        async def too_late() -> None:
            # The new owner of the partitions starts at the committed offsets, even if it is this stage.
            consumer(stage)._thread.seek_to_committed = go_back
            consumer(stage).assignment = set
            raise IllegalStateError("not assigned")

        consumer(stage)._thread.seek_to_committed = too_late
        dropped = await drop(stage, b"key")
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"key")])
        await asyncio.wait_for(dropped.wait(), SECONDS)
        consumer(stage).assignment = assignment
        await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"after all")])
        await until(partial(done.__contains__, b"after all"))


@asynccontextmanager
async def reading(cluster: KafkaCluster) -> AsyncIterator[RunningStage]:
    """Run a stage that has its partitions and has read a first event."""
    stage = cluster.faust()
    done: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with cluster.producer() as producer:
        serving = asyncio.create_task(EventConsumer(stage).run(handle))
        try:
            await producer.produce([Outgoing(SESSION_EVENTS, KEYS[0], b"first")])
            await until(partial(done.__contains__, b"first"))
            yield RunningStage(stage, producer, done, serving)
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def drop(stage: FaustClient, value: bytes) -> asyncio.Event:
    """Suspend the flow when a fetch brings this record. The returned event is set when Faust has dropped it."""
    fetching, brought, dropped = asyncio.Event(), asyncio.Event(), asyncio.Event()
    fetch = consumer(stage)._wait_next_records

    async def fetched_in_vain(seconds: float) -> Any:
        if brought.is_set():
            consumer(stage)._wait_next_records = fetch
            consumer(stage).resume_flow()
            dropped.set()
            return await fetch(seconds)
        fetching.set()
        records, active = await fetch(seconds)
        if any(record.value == value for records in records.values() for record in records):
            consumer(stage).stop_flow()
            brought.set()
        return records, active

    consumer(stage)._wait_next_records = fetched_in_vain
    await asyncio.wait_for(fetching.wait(), SECONDS)
    return dropped


def consumer(stage: FaustClient) -> Any:
    return stage._app.consumer


async def test_a_stop_commits_what_was_done_during_a_commit(
    kafka_cluster: KafkaCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way, is_waited_for = Event(), Event()
    commit, revoke = AIOKafkaConsumer.commit, FaustClient._on_revoked

    async def slow_commit(consumer: Any, offsets: Any) -> None:
        under_way.set()
        async with asyncio.timeout(SECONDS):
            while not is_waited_for.is_set():
                await asyncio.sleep(0.005)
        await commit(consumer, offsets)

    async def recorded_revoke(client: FaustClient) -> None:
        # The last commit begins before the one under way goes on.
        asyncio.get_running_loop().call_later(0.2, is_waited_for.set)
        await revoke(client)

    monkeypatch.setattr(AIOKafkaConsumer, "commit", slow_commit)
    monkeypatch.setattr(FaustClient, "_on_revoked", recorded_revoke)
    done: list[bytes | None] = []

    async def handle(records: Sequence[Record]) -> None:
        done.extend(record.value for record in records)

    async with kafka_cluster.producer() as producer:
        async with running(EventConsumer(kafka_cluster.faust()).run(handle)):
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"first")])
            await until(under_way.is_set)
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"second")])
            await until(lambda: done == [b"first", b"second"])
        async with running(EventConsumer(kafka_cluster.faust()).run(handle)):
            await producer.produce([Outgoing(SESSION_EVENTS, b"key", b"third")])
            await until(lambda: b"third" in done)
    assert done == [b"first", b"second", b"third"]
