"""Handle the events of a consumer group in batches in which accounts take turns."""

import asyncio
from collections.abc import Mapping, Sequence

from streams.core.offset_tracker import Commit
from streams.fair_batches import FairBatches
from streams.outage import Outages
from streams.ports import AccountOf, CostOf, HandleEvents, Partition, Record, RecordConsumer, Telemetry
from streams.read_ahead import ReadAhead
from streams.stages.consuming.stored_offsets import StoredOffsets
from streams.tasks import run_until_first_ends

# A crash repeats the events of this time.
COMMIT_INTERVAL_SECONDS = 1.0
# After so many records at once, others have probably arrived already.
LARGE_FETCH_RECORDS = 100


class FairConsumer:
    """An `EventConsumer` on a `RecordConsumer`: read ahead → handled → done without a gap → committed.

    All partitions are paused while as much is read ahead as may be, and read again when half of it is done.
    """

    def __init__(self, consumer: RecordConsumer, telemetry: Telemetry, outages: Outages) -> None:
        self._consumer = consumer
        self._telemetry = telemetry
        self._read_ahead = ReadAhead[Record]()
        self._batches = FairBatches(self._read_ahead, self._acknowledge, telemetry)
        self._done_offsets = StoredOffsets(consumer, telemetry, outages)
        self._has_new_offsets = asyncio.Event()
        self._assigned_partitions: set[Partition] = set()
        self._is_paused = False

    async def run(
        self, handle: HandleEvents, account_of: AccountOf = lambda _: "", cost_of: CostOf = lambda _: 1
    ) -> None:
        """Serve until cancelled. Raises what `handle` raised; its batch is not committed."""
        self._account_of = account_of
        await run_until_first_ends(
            lambda: self._consumer.run(self), lambda: self._batches.run(handle, cost_of), self._commit_regularly
        )

    async def drain(self, seconds: float) -> None:
        """Start no other batch, and wait until the one in hand is handled. Raises `TimeoutError`.

        What is done is committed when the partitions are revoked, at the end of `run`.
        """
        await self._batches.drain(seconds)

    def readiness_problems(self) -> list[str]:
        return self._consumer.readiness_problems()

    # -- called by the consumer --------------------------------------------------------------------------------

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))
        self._assigned_partitions.update(partitions)
        if self._is_paused:
            for partition in partitions:
                self._consumer.pause(partition)

    def on_received(self, records: Sequence[Record]) -> None:
        if self._batches.is_draining:
            return
        for record in records:
            # Others were read before their partition was revoked.
            if record.partition in self._assigned_partitions:
                self._read_ahead.add(record, record, self._account_of(record))
        if self._read_ahead.is_full and not self._is_paused:
            self._is_paused = True
            for partition in self._assigned_partitions:
                self._consumer.pause(partition)
        self._batches.note_read(more=len(records) >= LARGE_FETCH_RECORDS)

    async def on_revoked(self, partitions: Sequence[Partition], *, is_lost: bool) -> Mapping[Partition, Commit]:
        self._telemetry.info("partitions_lost" if is_lost else "partitions_revoked", count=len(partitions))
        self._assigned_partitions.difference_update(partitions)
        self._read_ahead.stop(partitions)
        if not is_lost:
            await self._batches.finish()
        self._read_ahead.forget(partitions)
        self._resume_when_half_empty()
        commits = self._done_offsets.pop(partitions)
        return {} if is_lost else commits

    # -- acknowledgements --------------------------------------------------------------------------------------

    async def _acknowledge(self, events: Sequence[Record]) -> None:
        if events:
            self._done_offsets.add({event.partition: event.offset + 1 for event in events})
            self._has_new_offsets.set()
            self._resume_when_half_empty()

    def _resume_when_half_empty(self) -> None:
        if self._is_paused and self._read_ahead.is_half_empty:
            self._is_paused = False
            for partition in self._assigned_partitions:
                self._consumer.resume(partition)

    async def _commit_regularly(self) -> None:
        while True:
            await self._has_new_offsets.wait()
            self._has_new_offsets.clear()
            await self._done_offsets.commit()
            if self._done_offsets:
                # Kafka refused it.
                self._has_new_offsets.set()
            await asyncio.sleep(COMMIT_INTERVAL_SECONDS)
