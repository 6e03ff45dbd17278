"""Store the records of a consumer group in batches, one batch at a time, and commit what is stored."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from streams.core.errors import NewerRecord, Unavailable
from streams.core.records.offset_tracker import Commit
from streams.outage import COMMITS, Outages
from streams.ports.kafka import Partition, Record, RecordConsumer
from streams.ports.runtime import Clock, Telemetry
from streams.stages.consuming.newer_record import as_one_problem, pause_for_newer_release
from streams.stages.consuming.stored_offsets import StoredOffsets
from streams.stages.consuming.write_buffer import LINGER_SECONDS, MAX_BUFFERED_RECORDS, WriteBuffer
from streams.tasks import run_until_first_ends

# If few records arrive, the next batch waits for more, unless this many wait already.
MIN_RECORDS_WITHOUT_WAIT = 500

# Stores a batch, and calls `mark_stored` with how far each partition has got.
Store = Callable[[Sequence[Record]], Awaitable[None]]
# Finds the offset from which each partition is read, if it is not the committed one. Raises `Unavailable`.
FindStarts = Callable[[Sequence[Partition]], Awaitable[Mapping[Partition, int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batching:
    """How large batches are, and how long records and commits wait."""

    # Work that is done once for each webhook of a batch, such as counting health, is cheaper in large batches.
    max_records: int = 2000
    # A batch costs as much as fifty records.
    min_interval_seconds: float = 0.5
    retry_seconds: float = 1.0
    revoke_timeout_seconds: float = 3.0
    linger_seconds: float = LINGER_SECONDS
    max_buffered_records: int = MAX_BUFFERED_RECORDS


BATCHING = Batching()


class BatchConsumer:
    """Hands over records in partition order: received → buffered → stored → committed.

    With `find_starts`, each partition is read from its start; the offsets in Kafka then only show its progress.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        store: Store,
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
        find_starts: FindStarts | None = None,
        batching: Batching = BATCHING,
    ) -> None:
        self._consumer = consumer
        self._store = store
        self._clock = clock
        self._telemetry = telemetry
        self._outages = outages
        self._find_starts = find_starts
        self._batching = batching
        self._buffer = WriteBuffer(
            consumer, linger_seconds=batching.linger_seconds, max_buffered_records=batching.max_buffered_records
        )
        self._stored_offsets = StoredOffsets(consumer, telemetry, outages)
        # The partitions that are read, each with the next offset to store.
        self._next_offsets: dict[Partition, int] = {}
        # Assigned partitions whose start is not known yet.
        self._unopened_partitions: set[Partition] = set()
        # The partitions that wait for a newer release, with the readiness problem.
        self._waiting_partitions: dict[Partition, str] = {}
        self._now = asyncio.get_running_loop().time
        self._next_batch_at = 0.0
        self._records_arrived = asyncio.Event()
        self._drained_event = asyncio.Event()
        self._idle_event = asyncio.Event()
        self._idle_event.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        await run_until_first_ends(lambda: self._consumer.run(self), self._run_batches)

    async def drain(self, seconds: float) -> None:
        """Accept no more records, and store those that arrived. Raises `TimeoutError` after `seconds`."""
        self._buffer.close()
        self._records_arrived.set()
        self._check_drained()
        await asyncio.wait_for(self._drained_event.wait(), seconds)

    def readiness_problems(self) -> list[str]:
        """Which partitions wait for a newer release."""
        return as_one_problem(list(self._waiting_partitions.values()))

    # -- called by the stage -----------------------------------------------------------------------------------

    def next_offset(self, partition: Partition) -> int | None:
        """The next offset to store; None when the partition was revoked, or is opened again."""
        return self._next_offsets.get(partition)

    def mark_stored(self, end_offsets: Mapping[Partition, int]) -> None:
        """Note that everything before these offsets is stored. It is committed after the batch. Skips revoked
        partitions.
        """
        owned_offsets = {partition: end for partition, end in end_offsets.items() if partition in self._next_offsets}
        self._next_offsets |= owned_offsets
        self._stored_offsets.add(owned_offsets)

    def reopen(self, partitions: Sequence[Partition]) -> None:
        """Read these partitions again from their start, which has moved."""
        owned_partitions = [partition for partition in partitions if partition in self._next_offsets]
        self._forget(owned_partitions)
        self._unopened_partitions.update(owned_partitions)
        self._records_arrived.set()

    def pause_for_newer_release(self, record: Record, error: NewerRecord) -> None:
        """Stop reading the record's partition until a process of a newer release gets it."""
        self._waiting_partitions[record.partition] = pause_for_newer_release(self._telemetry, record, error)
        self._buffer.drop([record.partition])
        self._consumer.pause(record.partition, record.offset)
        self._update_waiting_gauge()

    def is_waiting(self, partition: Partition) -> bool:
        """Whether the partition waits for a newer release."""
        return partition in self._waiting_partitions

    # -- called by the consumer --------------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))
        if self._find_starts:
            self._unopened_partitions.update(partitions)
            self._records_arrived.set()
        else:
            self._start_reading({partition: commit.offset if commit else 0 for partition, commit in partitions.items()})

    def _start_reading(self, starts: Mapping[Partition, int]) -> None:
        self._next_offsets |= starts
        self._buffer.open(starts)

    def on_received(self, records: Sequence[Record]) -> None:
        # Other records were read before their partition was rewound, paused or revoked.
        assigned_records = [
            record
            for record in records
            if record.partition in self._next_offsets and record.partition not in self._waiting_partitions
        ]
        self._buffer.add(assigned_records, self._now(), self._clock.now())
        self._records_arrived.set()

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self._telemetry.info("partitions_lost" if is_lost else "partitions_revoked", count=len(partitions))
        self._buffer.drop(partitions)
        for partition in partitions:
            self._waiting_partitions.pop(partition, None)
        self._update_waiting_gauge()
        if is_lost:
            self._forget(partitions)
            return {}
        await self._finish_batch()
        return self._forget(partitions)

    async def _finish_batch(self) -> None:
        """Wait for the current batch, so that the next owner does not have to store it again."""
        try:
            async with asyncio.timeout(self._batching.revoke_timeout_seconds):
                await self._idle_event.wait()
        except TimeoutError:
            self._telemetry.warning("revoke_timed_out", effect="the batch in hand is stored again by the next owner")

    def _forget(self, partitions: Sequence[Partition]) -> dict[Partition, Commit]:
        """Stop reading these partitions. Returns what was stored but not committed."""
        self._buffer.drop(partitions)
        self._unopened_partitions.difference_update(partitions)
        for partition in partitions:
            self._next_offsets.pop(partition, None)
        return self._stored_offsets.pop(partitions)

    def _update_waiting_gauge(self) -> None:
        self._telemetry.gauge("partitions_of_newer_release", len(self._waiting_partitions))

    # -- batches -----------------------------------------------------------------------------------------------

    async def _run_batches(self) -> None:
        while True:
            self._records_arrived.clear()
            if self._unopened_partitions and self._find_starts and not self._buffer.is_closed:
                await self._open_partitions(self._find_starts, sorted(self._unopened_partitions))
            if batch := self._take_batch():
                await self._store_batch(batch)
            elif self._buffer.is_closed or not self._unopened_partitions:
                await self._wait_for_records()

    def _take_batch(self) -> Sequence[Record]:
        if (
            self._now() < self._next_batch_at
            and len(self._buffer) < MIN_RECORDS_WITHOUT_WAIT
            and not self._buffer.is_closed
        ):
            return ()
        batch = self._buffer.take(self._batching.max_records, self._now())
        if batch:
            self._next_batch_at = self._now() + self._batching.min_interval_seconds
        return batch

    async def _store_batch(self, batch: Sequence[Record]) -> None:
        self._idle_event.clear()
        try:
            await self._store(batch)
        finally:
            self._idle_event.set()
        await self._stored_offsets.commit()
        self._check_drained()

    async def _wait_for_records(self) -> None:
        try:
            async with asyncio.timeout_at(self._next_wake_at()):
                await self._records_arrived.wait()
        except TimeoutError:
            # After the last record of a day, no batch would repeat a refused commit.
            await self._stored_offsets.commit()

    def _next_wake_at(self) -> float | None:
        next_batch_at = self._buffer.next_ready_at()
        if next_batch_at is not None and len(self._buffer) < MIN_RECORDS_WITHOUT_WAIT:
            next_batch_at = max(next_batch_at, self._next_batch_at)
        if not self._stored_offsets:
            return next_batch_at
        retry_at = self._now() + self._batching.retry_seconds
        return retry_at if next_batch_at is None else min(next_batch_at, retry_at)

    def _check_drained(self) -> None:
        if self._buffer.is_closed and not len(self._buffer) and self._idle_event.is_set():
            self._drained_event.set()

    async def _open_partitions(self, find_starts: FindStarts, partitions: Sequence[Partition]) -> None:
        """Read these partitions from their starts."""
        try:
            starts = await find_starts(partitions)
            for partition, start in starts.items():
                self._consumer.pause(partition, rewind_to=start)
            # After the response, no record from before the rewind is still on its way.
            await self._consumer.commit({partition: Commit(start, "") for partition, start in starts.items()})
        except Unavailable as error:
            self._telemetry.count("commit_errors_total")
            self._outages[COMMITS].begin(self, str(error))
            await asyncio.sleep(self._batching.retry_seconds)
            return
        self._outages[COMMITS].end(self)
        # Some partitions may have been revoked while they were opened.
        opened_partitions = {
            partition: start for partition, start in starts.items() if partition in self._unopened_partitions
        }
        self._unopened_partitions.difference_update(opened_partitions)
        self._start_reading(opened_partitions)
