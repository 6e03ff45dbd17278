"""Faust in a narrow lane: bytes in, batches taken unacknowledged, each acknowledged only when all of it is done."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.tables import TableManager

from streams.adapters.kafka.config import faust_security
from streams.adapters.kafka.lenient_records import read_leniently
from streams.adapters.kafka.messages import append_time, headers_of
from streams.core.errors import ScormWebhooksError
from streams.ports import Partition, Record

TAKE_RECORDS = 500
# Where this many come at once they come often: the next ones may wait for company, which spares the broker requests.
BUSY_RECORDS = 10
COMPANY_SECONDS = 0.02
SESSION_SECONDS = 10.0
# Events on a partition that is new wait until the next look at the topic: aiokafka's five minutes are too long.
REFRESH_MS = 30_000
LOOK_AGAIN_SECONDS = 1.0
# Faust logs some of its troubles and stands still; the process must not.
WATCH_SECONDS = 1.0

Handle = Callable[[Sequence[Record]], Awaitable[None]]


class FaustCrashed(ScormWebhooksError):
    """Faust could not start, or its consumer ended by itself; the process must exit and start again."""


class NoTables(TableManager):
    """Faust gives tables a second to be declared before it joins its group; here are none to wait for."""

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class FaustStage:
    """An agent on one topic that calls `handle` with lists of records; any exception of it ends the stage.

    Faust itself would acknowledge a batch that failed and go on: the events would be lost.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        group: str,
        topic: str,
        prefix: str,
        instance_id: str | None,
        session_seconds: float = SESSION_SECONDS,
    ) -> None:
        read_leniently()
        self._topic = topic
        self._folder = tempfile.TemporaryDirectory(prefix="faust-")
        wait = properties.get("fetch.wait.max.ms")
        self._fetch_wait_ms = None if wait is None else int(wait)
        self._app = faust.App(
            prefix + group,
            broker=["kafka://" + server for server in properties["bootstrap.servers"].split(",")],
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            web_enabled=False,
            stream_wait_empty=False,
            consumer_auto_offset_reset="earliest",
            consumer_group_instance_id=instance_id,
            broker_commit_interval=1,
            # Faust's minute would leave a killed member's partitions unread for that long.
            broker_session_timeout=session_seconds,
            consumer_metadata_max_age_ms=_refresh_ms(properties),
            broker_heartbeat_interval=session_seconds / 4,
            store="memory://",
            TableManager=NoTables,
            # It makes a folder for tables, which we have none of.
            datadir=self._folder.name,
            broker_credentials=faust_security(properties),
        )
        self._arrived: asyncio.Queue[Any] | None = None
        self._room = asyncio.Event()
        self._channel = self._app.topic(prefix + topic, key_serializer="raw", value_serializer="raw")

    def readiness_problems(self) -> list[str]:
        """Why nothing can be read at the moment."""
        if not self._app.consumer_generation_id:
            return ["it has not joined its group yet"]
        return [] if self._client._coordinator.coordinator_id is not None else ["the broker does not answer"]

    @property
    def _client(self) -> Any:
        """aiokafka's consumer within Faust's."""
        consumer: Any = self._app.consumer
        return consumer._thread._consumer

    async def run(self, handle: Handle) -> None:
        """Serve until cancelled. Raises whatever `handle` raised, before its batch is acknowledged."""
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def agent(stream: Any) -> None:
            self._arrived = stream.channel.queue
            async for events in _batches(stream):
                self._room.set()
                try:
                    await handle([_record(event, self._topic) for event in events])
                except Exception as unexpected:
                    if not failed.done():
                        failed.set_exception(unexpected)
                    await asyncio.Event().wait()  # nothing after this is acknowledged: the process ends
                for event in events:
                    await stream.ack(event)

        self._app.agent(self._channel, concurrency=1, name=f"{self._topic}.agent")(agent)
        try:
            self._spare_tasks()
            self._lose_nothing_while_the_flow_stands_still()
            await self._start()
            self._set_fetch_wait()
            crashed = asyncio.create_task(self._until_crashed())
            await asyncio.wait({failed, crashed}, return_when=asyncio.FIRST_COMPLETED)
            crashed.cancel()
            if failed.done():
                await failed
            raise FaustCrashed(str(self._app.crash_reason))
        finally:
            await self._stop()

    async def _stop(self) -> None:
        # While a commit is on its way, Faust's last one is none: what was acknowledged since would be done again.
        if not self._app.crashed:
            consumer: Any = self._app.consumer
            await consumer.maybe_wait_for_commit_to_finish()
            await consumer.commit()
        await self._app.stop()

    async def _start(self) -> None:
        try:
            await self._app.start()
        except KafkaError as error:
            raise FaustCrashed(f"Faust: {error}; the log line of aiokafka before this says why") from error

    def _set_fetch_wait(self) -> None:
        # A Kafka broker answers as soon as there is a record. The embedded one sits the whole wait out, and
        # Faust has no setting for it.
        if self._fetch_wait_ms is not None:
            self._client._fetcher._fetch_max_wait_ms = self._fetch_wait_ms

    def _spare_tasks(self) -> None:
        """Hand an event to the agent at once where it need not wait for room, and wait for room for many.

        Faust makes four tasks for each, so as to give up one that waits when its flow is suspended; and behind a
        backlog every third one would wait.
        """
        consumer: Any = self._app.consumer
        wait_first = consumer.wait_first

        async def hand_over(*waits: Any, **limit: Any) -> Any:
            flows = self._app.flow_control.is_active() and not consumer.suspend_flow.is_set()
            if len(waits) != 2 or not flows or self._arrived is None:
                return await wait_first(*waits, **limit)
            handing_over, suspended = waits
            if self._arrived.full():
                return await wait_first(self._once_there_is_room(handing_over), suspended, **limit)
            suspended.close()
            return await handing_over

        consumer.wait_first = hand_over

    def _lose_nothing_while_the_flow_stands_still(self) -> None:
        """Begin again where nothing is committed, or what is lies beyond the end; never go on without having gone back.

        Faust drops what it fetches while its flow stands still, as in a rebalance, and goes back to what is committed:
        of a partition that is new, nowhere. Where going back fails it says so in a log, and goes on behind the gap.
        """
        consumer: Any = self._app.consumer
        seek_to_committed = consumer.seek_to_committed

        async def go_back() -> Mapping[Any, int | None]:
            assigned = consumer.assignment()
            try:
                committed: Mapping[Any, int | None] = await seek_to_committed()
                # The topic was cut, or somebody set offsets: Faust would drop all that comes before such an offset.
                ends = await consumer.highwaters(*committed) if committed else {}
                committed = {tp: 0 if offset and offset > ends[tp] else offset for tp, offset in committed.items()}
                if beginnings := [partition for partition, offset in committed.items() if not offset]:
                    # Where nothing is kept so early any more, aiokafka takes the earliest.
                    await consumer.seek_wait(dict.fromkeys(beginnings, 0))
            except Exception as error:
                # With another assignment all is read from what is committed anyhow.
                if assigned and assigned == consumer.assignment():
                    await self._app.crash(error)
                raise
            return committed

        consumer.seek_to_committed = go_back

    async def _once_there_is_room(self, handing_over: Coroutine[Any, Any, Any]) -> None:
        assert self._arrived is not None
        try:
            while self._arrived.full():
                self._room.clear()
                # Faust empties the buffer itself when it goes back to what was committed, and tells nobody.
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._room.wait(), LOOK_AGAIN_SECONDS)
            await handing_over
        finally:
            handing_over.close()

    async def _until_crashed(self) -> None:
        while not self._app.crashed and not self._app.consumer.should_stop:
            await asyncio.sleep(WATCH_SECONDS)


async def _batches(stream: Any) -> AsyncIterator[list[faust.EventT[bytes]]]:
    """Whatever has arrived, at most `TAKE_RECORDS` at once, none of it acknowledged.

    Faust's own `noack_take` waits at every batch, which each event pays at a low rate and which bounds a high one.
    """
    stream.enable_acks = False
    events, arrived = stream.events(), stream.channel.queue
    async for event in events:
        batch = [event]
        while len(batch) < TAKE_RECORDS and not arrived.empty():
            batch.append(await anext(events))
        yield batch
        if BUSY_RECORDS <= len(batch) < TAKE_RECORDS:
            await asyncio.sleep(COMPANY_SECONDS)


def _refresh_ms(properties: Mapping[str, Any]) -> int:
    asked = int(properties.get("topic.metadata.refresh.interval.ms", REFRESH_MS))
    return asked if asked > 0 else REFRESH_MS  # librdkafka's -1 is "never"


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
