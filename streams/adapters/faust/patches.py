"""Change the behaviour of Faust and aiokafka where it would lose events or time.

Each part names the behaviour, the package and version in which it was seen, and when the part is no longer needed.
`lenient_records` has one more. Versions: faust-streaming 0.15.3, aiokafka 0.14.0.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Set
from contextlib import suppress
from typing import Any

import faust
from faust.tables import TableManager

MAX_BATCH_EVENTS = 500
FREE_CHECK_SECONDS = 1.0


class NoTables(TableManager):
    """Start at once, without tables.

    faust-streaming 0.15.3 waits a second for tables before it joins its group. Ends with a setting for an app that has
    no tables.
    """

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class AppWithoutFolders(faust.App):
    """Start where no file can be written.

    faust-streaming 0.15.3 makes folders for tables even when there are none. Ends with a setting for an app that has
    no tables.
    """

    def _create_directories(self) -> None:
        pass


# More than the buffer can ever hold. At four fifths of its own limit, faust-streaming 0.15.3 takes a partition out of
# the fetches; when all are out, it sleeps for a second. Remove it when Faust waits for the pressure to drop.
NO_BUFFER_LIMIT = 1_000_000_000


class StreamBuffer:
    """The buffer between Faust's consumer and the agent; `queue` is None until the agent runs.

    `max_events` is its limit of events: Faust's own is `NO_BUFFER_LIMIT`.
    """

    def __init__(self, max_events: int = 4096) -> None:
        self.queue: asyncio.Queue[Any] | None = None
        self.max_events = max_events
        self._freed_event = asyncio.Event()

    @property
    def is_full(self) -> bool:
        return self.queue is not None and self.queue.qsize() >= self.max_events

    @property
    def has_events(self) -> bool:
        return self.queue is not None and not self.queue.empty()

    def notify_free(self) -> None:
        """Note that the agent took events out."""
        self._freed_event.set()

    async def hand_over_when_free(self, handover: Coroutine[Any, Any, Any]) -> None:
        """Wait for room, then await `handover`.

        faust-streaming 0.15.3 empties the buffer without a signal when it seeks back: hence the limit on each wait.
        """
        try:
            while self.is_full:
                self._freed_event.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._freed_event.wait(), FREE_CHECK_SECONDS)
            await handover
        finally:
            handover.close()


def hand_over_directly(app: faust.App, buffer: StreamBuffer) -> None:
    """Await the handover of an event directly, without tasks, unless the buffer is full.

    faust-streaming 0.15.3 makes four tasks for each event, so that it can cancel the handover when its flow is
    suspended. Remove it when `Consumer.wait_first` needs no task for a coroutine that does not block.
    """
    consumer: Any = app.consumer
    wait_first = consumer.wait_first

    async def wait_first_without_tasks(*awaitables: Any, **options: Any) -> Any:
        is_flowing = app.flow_control.is_active() and not consumer.suspend_flow.is_set()
        if len(awaitables) != 2 or not is_flowing or buffer.queue is None:
            return await wait_first(*awaitables, **options)
        handover, suspension = awaitables
        if buffer.is_full:
            return await wait_first(buffer.hand_over_when_free(handover), suspension, **options)
        suspension.close()
        return await handover

    consumer.wait_first = wait_first_without_tasks


def seek_back_to_dropped_events(app: faust.App, on_seek: Callable[[Mapping[Any, int | None]], Awaitable[None]]) -> None:
    """Seek to the beginning if nothing is committed, or the committed offset is beyond the end. Crash on failure.

    `on_seek` is awaited with the offsets from which the partitions are read, None for the beginning. faust-streaming
    0.15.3 drops what it fetches during a rebalance, then seeks to the committed offsets; a new partition has none. When
    that seek fails it logs the error and goes on behind the gap. Remove it when Faust seeks every assigned partition
    and stops on a failure.
    """
    consumer: Any = app.consumer
    seek_to_committed = consumer.seek_to_committed

    async def seek() -> Mapping[Any, int | None]:
        partitions = consumer.assignment()
        try:
            committed: Mapping[Any, int | None] = await seek_to_committed()
            # Records were deleted, or a person set offsets: Faust drops every event before such an offset.
            ends = await consumer.highwaters(*committed) if committed else {}
            committed = {tp: 0 if offset and offset > ends[tp] else offset for tp, offset in committed.items()}
            if beginnings := [partition for partition, offset in committed.items() if not offset]:
                # aiokafka takes the earliest offset if 0 no longer exists.
                await consumer.seek_wait(dict.fromkeys(beginnings, 0))
            await on_seek(committed)
        except Exception as error:
            # With another assignment, Faust reads everything from the committed offsets anyway.
            if partitions and partitions == consumer.assignment():
                await app.crash(error)
            raise
        return committed

    consumer.seek_to_committed = seek


def finish_before_revoke(app: faust.App, finish: Callable[[], Awaitable[None]]) -> None:
    """Await `finish`, which commits, before partitions are given back.

    At a revoke, faust-streaming 0.15.3 first forgets what it has not committed: the events of the last second come
    again. Remove it when `Consumer.on_partitions_revoked` commits first.
    """
    consumer: Any = app.consumer
    revoke = consumer.on_partitions_revoked

    async def finish_and_revoke(partitions: Set[Any]) -> None:
        if partitions and not (app.should_stop or app.crashed):
            # Faust does the same next: the next owner reads the events in the buffer.
            consumer.stop_flow()
            app.flow_control.suspend()
            app.flow_control.clear()
            # An event that was just taken out of the buffer reaches the agent.
            await asyncio.sleep(0)
            await finish()
        await revoke(partitions)

    consumer.on_partitions_revoked = finish_and_revoke


def assigned_numbers(app: faust.App) -> list[int]:
    """The numbers of the partitions that the app has."""
    consumer: Any = app.consumer
    return [tp.partition for tp in consumer.assignment()]


def aiokafka_consumer(app: faust.App) -> Any:
    """aiokafka's consumer inside Faust's. faust-streaming 0.15.3 has no public name for it."""
    consumer: Any = app.consumer
    return consumer._thread._consumer


def pending_error(app: faust.App) -> Exception | None:
    """Why the member cannot join its group, or stay in it.

    aiokafka 0.14.0 keeps the error for the next read and waits, and faust-streaming 0.15.3 reads only what is assigned:
    a refused member would wait without an end. Remove it when Faust asks for errors without an assignment.
    """
    consumer = aiokafka_consumer(app)
    coordinator = consumer and consumer._coordinator
    error: Exception | None = coordinator and coordinator._pending_exception
    return error


def set_fetch_wait(app: faust.App, wait_ms: int, gather_seconds: Callable[[], float]) -> None:
    """Set how long a fetch may wait for a record, and start the next fetch `gather_seconds` after one with records.

    A fetch costs as much as one event, or as ten events in a batch. faust-streaming 0.15.3 has no such settings, and
    aiokafka 0.14.0 starts the next fetch at once. Ends with both.
    """
    fetcher = aiokafka_consumer(app)._fetcher
    fetcher._fetch_max_wait_ms = wait_ms
    fetch, last_read_at = fetcher._proc_fetch_request, -math.inf

    async def fetch_later(*arguments: Any) -> Any:
        nonlocal last_read_at
        loop = asyncio.get_running_loop()
        if (wait := last_read_at + gather_seconds() - loop.time()) > 0:
            try:
                await asyncio.sleep(wait)
            except asyncio.CancelledError:
                # Like a fetch in progress: aiokafka awaits what it cancels, and its end must not fail.
                return False
        has_records = await fetch(*arguments)
        if has_records:
            last_read_at = loop.time()
        return has_records

    fetcher._proc_fetch_request = fetch_later


async def commit(app: faust.App) -> None:
    """Commit the acknowledged events.

    faust-streaming 0.15.3 skips a commit while another one is under way. At a stop, what was acknowledged since then
    comes again. Remove it when `Consumer.commit` commits after the one it waits for.
    """
    consumer: Any = app.consumer
    await consumer.maybe_wait_for_commit_to_finish()
    await consumer.commit()


async def batches(stream: Any) -> AsyncIterator[list[faust.EventT[bytes]]]:
    """Yield the events that have arrived, at most `MAX_BATCH_EVENTS` at once, none of them acknowledged.

    `noack_take` of faust-streaming 0.15.3 waits at every batch, which delays each event at a low rate and limits a high
    one. Remove it when `noack_take` yields at once what has arrived.
    """
    stream.enable_acks = False
    events, queue = stream.events(), stream.channel.queue
    async for event in events:
        batch = [event]
        while len(batch) < MAX_BATCH_EVENTS and not queue.empty():
            batch.append(await anext(events))
        yield batch
