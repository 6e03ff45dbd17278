"""Run Faust with bytes in: accounts take turns in batches, and an event is acknowledged when its batch is done."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import faust
from aiokafka.errors import KafkaError

from streams.adapters.faust import patches
from streams.adapters.faust.credentials import faust_security
from streams.adapters.faust.fetch_pace import FetchPace
from streams.adapters.faust.lenient_records import read_leniently
from streams.adapters.kafka.consumer_watchdog import NewWatchdog
from streams.adapters.kafka.messages import append_time, headers_of
from streams.core.errors import ScormWebhooksError
from streams.fair_batches import FairBatches
from streams.outage import BROKER_AWAY
from streams.ports import AccountOf, CostOf, HandleEvents, Partition, Record, Telemetry
from streams.read_ahead import ReadAhead
from streams.tasks import run_until_first_ends

SESSION_SECONDS = 10.0
# Events on a new partition wait until the next metadata refresh: aiokafka's five minutes are too long.
METADATA_REFRESH_MS = 30_000
# Faust logs some of its failures and does nothing more. The process must end then.
WATCH_INTERVAL_SECONDS = 1.0
# Faust's default.
FETCH_WAIT_MS = 1500
COMMIT_TIMEOUT_SECONDS = 3.0


class FaustCrashed(ScormWebhooksError):
    """Faust could not start, or its consumer ended by itself; the process must exit and start again."""


class FaustStage:
    """An agent on one topic that gives its handler batches of records; any exception of the handler ends the stage.

    It reads ahead of the batch, so that the accounts take turns.

    Faust itself acknowledges a batch that failed and goes on: the events would be lost.
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
    ) -> None:
        read_leniently()
        self._telemetry = telemetry
        self._topic = topic
        # The embedded broker answers a fetch after its whole wait, even when a record arrives: it needs a short one.
        self._fetch_wait_ms = int(properties.get("fetch.wait.max.ms", FETCH_WAIT_MS))
        self._pace = FetchPace(
            lambda wait_ms, min_bytes: patches.set_fetch(self._app, wait_ms, min_bytes), self._fetch_wait_ms
        )
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
            broker_commit_interval=1,
            # With Faust's default of a minute, a killed member's partitions are not read for that long.
            broker_session_timeout=session_seconds,
            consumer_metadata_max_age_ms=_refresh_ms(properties),
            broker_heartbeat_interval=session_seconds / 4,
            store="memory://",
            TableManager=patches.NoTables,
            broker_credentials=faust_security(properties),
        )
        self._watchdog = watchdog(group, self._positions_to_read) if watchdog else None
        # The next offset of each partition, since its last assignment.
        self._next_offsets: dict[Partition, int] = {}
        self._app.on_partitions_assigned.connect(lambda *_, **__: telemetry.count("rebalances_total"), weak=False)
        self._buffer = patches.StreamBuffer()
        self._stream: Any = None
        self._read_ahead = ReadAhead[faust.EventT[bytes]]()
        self._batches = FairBatches(self._read_ahead, self._acknowledge, telemetry)
        # Set when there is room.
        self._freed_event = asyncio.Event()
        self._channel = self._app.topic(prefix + topic, key_serializer="raw", value_serializer="raw")

    def readiness_problems(self) -> list[str]:
        """Why nothing can be read at the moment."""
        if not self._app.consumer_generation_id:
            return ["it has not joined its group yet"]
        coordinator = patches.aiokafka_consumer(self._app)._coordinator
        return [] if coordinator.coordinator_id is not None else [BROKER_AWAY]

    async def run(
        self, handle: HandleEvents, account_of: AccountOf = lambda _: "", cost_of: CostOf = lambda _: 1
    ) -> None:
        """Serve until cancelled. Raises what `handle` raised, before its batch is acknowledged."""
        failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._app.agent(self._channel, concurrency=1, name=f"{self._topic}.agent")(self._agent(account_of, failure))
        try:
            patches.hand_over_directly(self._app, self._buffer)
            patches.seek_back_to_dropped_events(self._app, self._on_seek)
            patches.finish_before_revoke(self._app, self._finish)
            await self._start()
            patches.set_fetch(self._app, self._fetch_wait_ms, 1)
            watchers = [
                self._wait_until_crashed,
                self._wait_until_refused,
                *([self._watchdog.run] if self._watchdog else []),
            ]
            await run_until_first_ends(lambda: failure, lambda: self._batches.run(handle, cost_of), *watchers)
            raise FaustCrashed(str(self._app.crash_reason))
        finally:
            await patches.stop(self._app)

    async def drain(self, seconds: float) -> None:
        """Start no other batch, and wait until the one in hand is acknowledged. Raises `TimeoutError`."""
        await self._batches.drain(seconds)

    def _on_seek(self, offsets: Mapping[Any, int | None]) -> None:
        """Note from where the partitions are read after an assignment."""
        self._next_offsets = {Partition(self._topic, tp.partition): offset or 0 for tp, offset in offsets.items()}
        self._read_ahead.restart(self._next_offsets)
        self._freed_event.set()
        if self._watchdog:
            self._watchdog.reset(self._next_offsets)

    def _positions_to_read(self) -> Mapping[Partition, int]:
        if self._batches.is_draining or len(self._read_ahead) or self.readiness_problems():
            return {}
        # An assigned partition of which the start was never found is not read either.
        partitions = [Partition(self._topic, number) for number in patches.assigned_numbers(self._app)]
        return {partition: self._next_offsets.get(partition, 0) for partition in partitions}

    async def _finish(self) -> None:
        """Finish the batch in hand and commit it, each for a limited time."""
        self._read_ahead.stop_all()
        await self._batches.finish()
        try:
            await asyncio.wait_for(patches.commit(self._app), COMMIT_TIMEOUT_SECONDS)
        except TimeoutError:
            reason = "the broker did not answer in time"
            self._telemetry.warning(
                "last_commit_failed", why=reason, effect="the records of revoked partitions are repeated"
            )

    def _agent(self, account_of: AccountOf, failure: "asyncio.Future[None]") -> Callable[[Any], Awaitable[None]]:
        async def agent(stream: Any) -> None:
            self._stream, self._buffer.queue = stream, stream.channel.queue
            try:
                async for events in patches.batches(stream):
                    self._buffer.notify_free()
                    await self._read(events, account_of)
            except Exception as error:
                if not failure.done():
                    failure.set_exception(error)
                await _wait_forever()  # the process ends: nothing after this is acknowledged

        return agent

    async def _read(self, events: Sequence[faust.EventT[bytes]], account_of: AccountOf) -> None:
        """Queue events, and wait until there is room for more."""
        for event in events:
            record = _record(event, self._topic)
            self._read_ahead.add(event, record, account_of(record))
            if record.partition in self._next_offsets:
                self._next_offsets[record.partition] = record.offset + 1
        self._pace.add_events(len(events))
        # Some may have been handled before Faust read them again.
        await self._acknowledge(self._read_ahead.complete(()))
        self._batches.note_read(more=self._buffer.has_events)
        while self._read_ahead.is_full:
            self._freed_event.clear()
            await self._freed_event.wait()

    async def _acknowledge(self, events: Sequence[faust.EventT[bytes]]) -> None:
        for event in events:
            await self._stream.ack(event)
        self._freed_event.set()

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


async def _wait_forever() -> None:
    await asyncio.Event().wait()


def _refresh_ms(properties: Mapping[str, Any]) -> int:
    milliseconds = int(properties.get("topic.metadata.refresh.interval.ms", METADATA_REFRESH_MS))
    return milliseconds if milliseconds > 0 else METADATA_REFRESH_MS  # librdkafka's -1 is "never"


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
