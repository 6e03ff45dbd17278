"""Read events with a Faust agent. Only a commit acknowledges them."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

import faust
from aiokafka.errors import KafkaError

from streams.adapters.faust import patches
from streams.adapters.faust.credentials import faust_security
from streams.adapters.faust.lenient_records import read_leniently
from streams.adapters.kafka.consuming.consumer_watchdog import NewWatchdog
from streams.adapters.kafka.consuming.messages import append_time, headers_of
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.core.records.offset_tracker import Commit
from streams.outage import BROKER_AWAY
from streams.ports.kafka import Partition, Record, RecordHandler
from streams.ports.runtime import Telemetry
from streams.tasks import run_until_first_ends

SESSION_SECONDS = 10.0
# Events on a new partition wait until the next metadata refresh: aiokafka's five minutes are too long.
METADATA_REFRESH_MS = 30_000
# Faust only logs some of its failures. The process must end then.
WATCH_INTERVAL_SECONDS = 1.0
# Faust's default.
FETCH_WAIT_MS = 1500
COMMIT_TIMEOUT_SECONDS = 3.0
# Faust's own commit finds nothing to do, because `commit` does it.
FAUST_COMMIT_SECONDS = 3600
# This many events are a backlog: one fetch brings enough of it.
BACKLOG_EVENTS = 100
# More acknowledgements in a row would delay the events being handled.
ACKNOWLEDGEMENTS_AT_ONCE = 100


class FaustCrashed(ScormWebhooksError):
    """Faust could not start, or its consumer ended by itself; the process must exit and start again."""


class FaustClient:
    """An `EventClient` on one topic. While one partition is paused, none is read.

    After a fetch that brought events, the next fetch starts `gather_seconds` later, so that newer events share it.
    In a backlog it starts at once.

    Faust by itself acknowledges a failed batch and goes on: the events would be lost.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        group: str,
        topic: str,
        prefix: str,
        instance_id: str | None,
        telemetry: Telemetry,
        session_seconds: float = SESSION_SECONDS,
        watchdog: NewWatchdog | None = None,
        gather_seconds: float = 0,
        *,
        commit_timeout_seconds: float = COMMIT_TIMEOUT_SECONDS,
    ) -> None:
        read_leniently()
        self._telemetry = telemetry
        self._topic = topic
        # The embedded broker answers a fetch after its whole wait, even when a record arrives: it needs a short one.
        self._fetch_wait_ms = int(properties.get("fetch.wait.max.ms", FETCH_WAIT_MS))
        self._gather_seconds = gather_seconds
        self._commit_timeout_seconds = commit_timeout_seconds
        self._is_backlogged = False
        self._app = patches.AppWithoutFolders(
            prefix + group,
            broker=["kafka://" + server for server in properties["bootstrap.servers"].split(",")],
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            stream_wait_empty=False,
            stream_buffer_maxsize=patches.NO_BUFFER_LIMIT,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=instance_id,
            broker_commit_interval=FAUST_COMMIT_SECONDS,
            # With Faust's default, nobody reads a killed member's partitions for a minute.
            broker_session_timeout=session_seconds,
            consumer_metadata_max_age_ms=_refresh_ms(properties),
            broker_heartbeat_interval=session_seconds / 4,
            store="memory://",
            TableManager=patches.NoTables,
            broker_credentials=faust_security(properties),
        )
        self._watchdog = watchdog(group, self._positions_to_read) if watchdog else None
        self._channel = self._app.topic(prefix + topic, key_serializer="raw", value_serializer="raw")
        self._buffer = patches.StreamBuffer()
        self._stream: Any = None
        # The next offset of each partition, since its last assignment.
        self._next_offsets: dict[Partition, int] = {}
        self._unacknowledged: dict[Partition, deque[faust.EventT[bytes]]] = {}
        self._paused: set[Partition] = set()
        self._resumed_event = asyncio.Event()
        self._commit_task: asyncio.Task[None] | None = None

    def readiness_problems(self) -> list[str]:
        if not self._app.consumer_generation_id:
            return ["it has not joined its group yet"]
        coordinator = patches.aiokafka_consumer(self._app)._coordinator
        return [] if coordinator.coordinator_id is not None else [BROKER_AWAY]

    async def run(self, handler: RecordHandler) -> None:
        """Pass events to `handler` until cancelled, then leave the group. Raises what the handler raises."""
        self._handler = handler
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app.agent(self._channel, concurrency=1, name=f"{self._topic}.agent")(self._read)
        try:
            patches.hand_over_directly(self._app, self._buffer)
            patches.seek_back_to_dropped_events(self._app, self._on_assigned)
            patches.finish_before_revoke(self._app, self._on_revoked)
            await self._start()
            patches.set_fetch_wait(
                self._app, self._fetch_wait_ms, lambda: 0 if self._is_backlogged else self._gather_seconds
            )
            watchers = [
                self._wait_until_crashed,
                self._wait_until_refused,
                *([self._watchdog.run] if self._watchdog else []),
            ]
            await run_until_first_ends(lambda: self._failure, *watchers)
            raise FaustCrashed(str(self._app.crash_reason))
        finally:
            if self._next_offsets and not self._app.crashed:
                await self._on_revoked()
            await self._app.stop()

    async def _read(self, stream: Any) -> None:
        """The agent: pass on the events that have arrived, again and again."""
        self._stream, self._buffer.queue = stream, stream.channel.queue
        try:
            async for events in patches.batches(stream):
                self._buffer.notify_free()
                records = [_record(event, self._topic) for event in events]
                for event, record in zip(events, records, strict=True):
                    if record.partition in self._next_offsets:
                        self._next_offsets[record.partition] = record.offset + 1
                        self._unacknowledged.setdefault(record.partition, deque()).append(event)
                self._is_backlogged = len(events) >= BACKLOG_EVENTS
                self._handler.on_received(records)
                if not self._buffer.has_events:
                    self._handler.on_received(())
                while self._paused:
                    self._resumed_event.clear()
                    await self._resumed_event.wait()
        except Exception as error:
            if not self._failure.done():
                self._failure.set_exception(error)
            await asyncio.Event().wait()  # the process ends: nothing after this is acknowledged

    async def commit(self, commits: Mapping[Partition, Commit]) -> None:
        """Acknowledge the events before these offsets, and commit.

        Raises `Unavailable` if the broker does not respond in time; acknowledged events are in the next commit.
        """
        for partition, commit in commits.items():
            events = self._unacknowledged.get(partition, deque())
            while events and events[0].message.offset < commit.offset:
                for _ in range(ACKNOWLEDGEMENTS_AT_ONCE):
                    if events and events[0].message.offset < commit.offset:
                        await self._stream.ack(events.popleft())
                await asyncio.sleep(0)
        # A commit that was cancelled, or is late, still runs. It must not overwrite a later one.
        await self._wait_for_commit()
        self._commit_task = asyncio.ensure_future(patches.commit(self._app))
        await self._wait_for_commit()

    async def _wait_for_commit(self) -> None:
        if self._commit_task is not None:
            await asyncio.wait({self._commit_task}, timeout=self._commit_timeout_seconds)
            if not self._commit_task.done():
                raise Unavailable("the broker did not answer a commit in time")
            self._commit_task.result()

    def pause(self, partition: Partition) -> None:
        self._paused.add(partition)

    def resume(self, partition: Partition) -> None:
        self._paused.discard(partition)
        self._resumed_event.set()
        if self._watchdog:
            self._watchdog.reset([partition])

    async def _on_assigned(self, offsets: Mapping[Any, int | None]) -> None:
        """After an assignment, report the offsets from which the partitions are read; None is the beginning."""
        if self._next_offsets:
            # Faust reads these partitions again without having given them back.
            await self._handler.on_revoked(list(self._next_offsets), is_lost=True)
        starts = {Partition(self._topic, tp.partition): offset or 0 for tp, offset in offsets.items()}
        self._next_offsets = starts
        self._unacknowledged.clear()
        self._paused.clear()
        self._resumed_event.set()
        if self._watchdog:
            self._watchdog.reset(starts)
        self._handler.on_assigned({partition: Commit(offset, "") for partition, offset in starts.items()})

    async def _on_revoked(self) -> None:
        """Before a revocation of all partitions, finish the current batch and commit it, each within a limited time."""
        partitions, self._next_offsets = list(self._next_offsets), {}
        commits = await self._handler.on_revoked(partitions, is_lost=False)
        try:
            await self.commit(commits)
        except Unavailable as error:
            self._telemetry.warning(
                "last_commit_failed", why=str(error), effect="the records of revoked partitions are repeated"
            )

    def _positions_to_read(self) -> Mapping[Partition, int]:
        if self._paused or self.readiness_problems():
            return {}
        # Assigned partitions whose start was never found are included: they are not read.
        partitions = [Partition(self._topic, number) for number in patches.assigned_numbers(self._app)]
        return {partition: self._next_offsets.get(partition, 0) for partition in partitions}

    async def _start(self) -> None:
        try:
            await run_until_first_ends(self._app.start, self._wait_until_refused)
        except KafkaError as error:
            raise FaustCrashed(f"Faust: {error}; the log line of aiokafka before this says why") from error

    async def _wait_until_crashed(self) -> None:
        while not self._app.crashed and not self._app.consumer.should_stop:
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)

    async def _wait_until_refused(self) -> None:
        while not (error := patches.pending_error(self._app)):
            await asyncio.sleep(WATCH_INTERVAL_SECONDS)
        raise FaustCrashed(f"Faust: {error!r}") from error


def _refresh_ms(properties: Mapping[str, Any]) -> int:
    milliseconds = int(properties.get("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS))
    return milliseconds if milliseconds > 0 else METADATA_REFRESH_MS  # In librdkafka -1 means never.


def _record(event: faust.EventT[bytes], topic: str) -> Record:
    message = event.message
    return Record(
        partition=Partition(topic, message.partition),
        offset=message.offset,
        key=message.key,
        value=message.value,
        appended_at=append_time(message.timestamp),
        headers=headers_of(message.headers.items() if isinstance(message.headers, Mapping) else message.headers),
    )
