"""meter: count launches by account and month, exactly once, raise `usage.threshold`, and note unknown accounts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from streams.core.accounts.usage import LAUNCHED_TYPE, launches_of
from streams.core.deliveries.backfill import OffsetRange
from streams.core.errors import ROW_ERRORS, Invalid, InvalidRecord
from streams.core.events.event import Event, check_event
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.features.usage.account_check import AccountCheck
from streams.outage import DATABASE, Outages
from streams.ports.kafka import Codec, Partition, Record, RecordConsumer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import UsageMeter
from streams.stages.consuming.batch_consumer import BATCHING, BatchConsumer, Batching

RETRY_SECONDS = 1.0


class Meter:
    """Reads `session-events` from the positions that are stored with the counts; offsets in Kafka follow them.

    `incarnation` identifies the topic: one that was deleted and made again is read from its start.
    """

    def __init__(
        self,
        consumer: RecordConsumer,
        codec: Codec,
        usage: UsageMeter,
        accounts: AccountCheck,
        incarnation: Callable[[], Awaitable[str]],
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
        *,
        batching: Batching = BATCHING,
    ) -> None:
        self._codec = codec
        self._usage = usage
        self._accounts = accounts
        self._find_incarnation = incarnation
        self._clock = clock
        self._telemetry = telemetry
        self._outages = outages
        self._incarnation = ""
        # Offsets in Kafka only show lag: the positions are in the database.
        self._batches = BatchConsumer(consumer, self._count, clock, telemetry, outages, self._positions, batching)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._batches.run()

    async def drain(self, seconds: float) -> None:
        """Accept no more records, and count those that arrived. Raises `TimeoutError` after `seconds`."""
        await self._batches.drain(seconds)

    async def _positions(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._incarnation = await self._find_incarnation()
        numbers = [partition.number for partition in partitions]
        positions = await self._outages.retry(
            lambda: self._usage.positions(self._incarnation, numbers), RETRY_SECONDS, DATABASE
        )
        return {partition: positions[partition.number] for partition in partitions}

    async def _count(self, records: Sequence[Record]) -> None:
        # A partition may be revoked while a part of the batch is stored.
        if not (records := [record for record in records if self._batches.next_offset(record.partition) is not None]):
            return
        try:
            await self._store(records, self._events(records))
        except ROW_ERRORS as error:
            if len(records) > 1:
                # The record of such an event must not stop the others.
                middle = len(records) // 2
                await self._count(records[:middle])
                await self._count(records[middle:])
                return
            self._telemetry.warning("launch_not_counted", **records[0].place, why=str(error))
            await self._store(records, ())

    async def _store(self, records: Sequence[Record], events: Sequence[tuple[Event, datetime]]) -> None:
        batch = launches_of(events, self._clock.now())
        ends = {record.partition: record.offset + 1 for record in records}
        starts = {partition: self._batches.next_offset(partition) for partition in ends}
        # An end may be lower than its start: the topic was truncated, or made again. Counted events are recognized by
        # their ids.
        moves = [OffsetRange(item.number, start, ends[item]) for item, start in starts.items() if start is not None]
        new_launches = await self._outages.retry(
            lambda: self._usage.count(self._incarnation, moves, batch), RETRY_SECONDS, DATABASE
        )
        if new_launches is None:
            # Another member counted these records, or the topic was made again.
            self._batches.reopen(list(ends))
            return
        self._telemetry.count("usage_launches_total", new_launches.launches)
        self._telemetry.count("usage_late_launches_total", new_launches.late_launches)
        self._telemetry.count(
            "usage_duplicates_total", len(batch.launches) + len(batch.late_launches) - sum(new_launches)
        )
        self._batches.mark_stored(ends)
        await self._accounts.record_unknown(events)

    def _events(self, records: Sequence[Record]) -> list[tuple[Event, datetime]]:
        return [(event, record.appended_at) for record in records if (event := self._event(record)) is not None]

    def _event(self, record: Record) -> Event | None:
        try:
            return self._decode_event(record)
        except (InvalidRecord, Invalid):
            # fan-out stores the record as invalid.
            return None

    @invalid_on_failure
    def _decode_event(self, record: Record) -> Event | None:
        value = self._codec.decode(record.value or b"")
        if not isinstance(value, Event):
            return None
        # For other events only the account is read.
        return check_event(value, record.appended_at) if value.type == LAUNCHED_TYPE else value
