"""Read the events of a consumer group ahead, and hand them out in batches in which accounts take turns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from streams.core.records.offset_tracker import Commit
from streams.outage import Outages
from streams.ports.kafka import EventClient, EventCodec, Partition, Record
from streams.ports.runtime import Telemetry
from streams.stages.consuming.read_ahead import LARGE_BATCH, SMALL_BATCH, PendingEvent, ReadAhead
from streams.stages.consuming.stored_offsets import StoredOffsets
from streams.tasks import run_until_first_ends

# A crash repeats the events of this time.
COMMIT_INTERVAL_SECONDS = 1.0
# After this many records at once, others have probably arrived already.
LARGE_FETCH_RECORDS = 100
# While more events arrive, they are read for this long before the next batch, and that batch is small: the last event
# may belong to an account that sends few.
READ_SECONDS = 0.1
# A batch of this size shares enough.
FULL_RECORDS = 500
REVOKE_SECONDS = 3.0


class EventBatch:
    """Events to handle, one or more. The first `handled_count` of them were handled."""

    def __init__(self, events: Sequence[PendingEvent]) -> None:
        self.events = events
        self.records = [pending.record for pending in events]
        self.handled_count = len(events)


class EventReader:
    """Events of a group: read → queued by account → handed out → done without a gap → committed.

    A crash repeats events but loses none. All partitions are paused when the read-ahead is full, and read again when
    half of it is done. The next batch waits `gather_seconds` for more events, which share its requests.
    """

    def __init__(
        self,
        client: EventClient,
        codec: EventCodec,
        telemetry: Telemetry,
        outages: Outages,
        gather_seconds: float = 0,
        *,
        commit_interval_seconds: float = COMMIT_INTERVAL_SECONDS,
        revoke_seconds: float = REVOKE_SECONDS,
    ) -> None:
        self._client = client
        self._codec = codec
        self._telemetry = telemetry
        self._gather_seconds = gather_seconds
        self._commit_interval_seconds = commit_interval_seconds
        self._revoke_seconds = revoke_seconds
        self._read_ahead = ReadAhead()
        self._done_offsets = StoredOffsets(client, telemetry, outages)
        self._has_new_offsets = asyncio.Event()
        self._assigned_partitions: set[Partition] = set()
        self._is_paused = False
        self._is_draining = False
        # Set when something was read, and when nothing more can be read right now.
        self._arrived, self._has_read_all = asyncio.Event(), asyncio.Event()
        # Set while no batch is in hand.
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Read and commit until cancelled. Raises the error that ends the client."""
        await run_until_first_ends(lambda: self._client.run(self), self._commit_regularly)

    @asynccontextmanager
    async def next_batch(self, deliveries_per_event: Callable[[str], int]) -> AsyncIterator[EventBatch]:
        """The next events. When the block ends without an exception, the handled ones are done.

        The others are handed out again. `deliveries_per_event` says how much of a batch an event of an account takes.
        """
        batch_limit = await self._until_read()
        self._idle.clear()
        try:
            batch = EventBatch(self._read_ahead.take(deliveries_per_event, batch_limit))
            yield batch
            if rest := batch.events[batch.handled_count :]:
                self._put_back(rest)
            self._note_done(self._read_ahead.complete(batch.events[: batch.handled_count]))
        finally:
            self._idle.set()
        if len(batch.events) < FULL_RECORDS and not self._read_ahead.has_queued:
            await asyncio.sleep(self._gather_seconds)

    async def drain(self, seconds: float) -> None:
        """Hand out no more batches, and wait until the current one is done. Raises `TimeoutError`.

        Finished events are committed when the partitions are revoked, at the end of `run`.
        """
        self._is_draining = True
        await asyncio.wait_for(self._idle.wait(), seconds)

    def readiness_problems(self) -> list[str]:
        """Why nothing can be read at the moment."""
        return self._client.readiness_problems()

    async def _until_read(self) -> int:
        """Wait for events, and a moment longer while more arrive. Returns the limit of the next batch."""
        while not self._read_ahead.has_queued:
            self._arrived.clear()
            await self._arrived.wait()
        limit = LARGE_BATCH
        try:
            async with asyncio.timeout(READ_SECONDS):
                await self._has_read_all.wait()
        except TimeoutError:
            limit = SMALL_BATCH
            # Perhaps no more events come: wait only after the next one.
            self._has_read_all.set()
        if self._is_draining:
            await asyncio.Event().wait()
        return limit

    # -- called by the client ----------------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))
        self._assigned_partitions.update(partitions)
        self._read_ahead.start({partition: commit.offset if commit else 0 for partition, commit in partitions.items()})
        if self._is_paused:
            for partition in partitions:
                self._client.pause(partition)

    def on_received(self, records: Sequence[Record]) -> None:
        if self._is_draining:
            return
        is_read_again = bool(self._read_ahead.handled)
        for record in records:
            # Other records were read before their partition was revoked.
            if record.partition in self._assigned_partitions:
                self._read_ahead.add(record, self._codec.account_of(record.value or b""))
        if is_read_again:
            # Some events were handled before.
            self._note_done(self._read_ahead.complete(()))
        if self._read_ahead.is_full and not self._is_paused:
            self._is_paused = True
            for partition in self._assigned_partitions:
                self._client.pause(partition)
        self._arrived.set()
        if len(records) < LARGE_FETCH_RECORDS or self._is_paused:
            self._has_read_all.set()
        else:
            self._has_read_all.clear()

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self._telemetry.info("partitions_lost" if is_lost else "partitions_revoked", count=len(partitions))
        self._assigned_partitions.difference_update(partitions)
        self._read_ahead.stop(partitions)
        if not is_lost:
            await self._finish_batch()
        self._read_ahead.forget(partitions)
        if self._is_paused:
            self._resume_when_half_empty()
        commits = self._done_offsets.pop(partitions)
        return {} if is_lost else commits

    async def _finish_batch(self) -> None:
        """Wait a limited time for the current batch, whose partitions go to another member."""
        try:
            await asyncio.wait_for(self._idle.wait(), self._revoke_seconds)
        except TimeoutError:
            self._telemetry.warning("revoke_timed_out", effect="the batch in hand is handled again by the next owner")

    def _put_back(self, events: Sequence[PendingEvent]) -> None:
        # The next owner reads the events of a partition that is being revoked.
        owned_events = [pending for pending in events if pending.record.partition in self._assigned_partitions]
        self._read_ahead.put_back(owned_events)

    # -- what is done ------------------------------------------------------------------------------------------

    def _note_done(self, next_offsets: Mapping[Partition, int]) -> None:
        if next_offsets:
            self._done_offsets.add(next_offsets)
            self._has_new_offsets.set()
            if self._is_paused:
                self._resume_when_half_empty()

    def _resume_when_half_empty(self) -> None:
        if self._read_ahead.is_half_empty:
            self._is_paused = False
            for partition in self._assigned_partitions:
                self._client.resume(partition)

    async def _commit_regularly(self) -> None:
        while True:
            await self._has_new_offsets.wait()
            self._has_new_offsets.clear()
            await self._done_offsets.commit()
            if self._done_offsets:
                # Kafka refused it.
                self._has_new_offsets.set()
            await asyncio.sleep(self._commit_interval_seconds)
