"""record: store in SQL what happened to each delivery, count health, pause webhooks."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial

from streams.core.attempt import Attempt, DeadLetter
from streams.core.delivery import Delivery
from streams.core.delivery_state import Batch, EventKey, RecordedValue, fold, stripped
from streams.core.errors import ConflictingId, Invalid, InvalidRecord, NewerRecord, Refused
from streams.core.network import OwnNetwork
from streams.core.offset_tracker import Commit
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages
from streams.ports import Clock, Codec, Partition, Record, RecordConsumer, Recorder, RecordProducer, Telemetry
from streams.stages.consuming.newer_record import wait_for_release
from streams.stages.consuming.stored_offsets import StoredOffsets
from streams.stages.consuming.write_buffer import WriteBuffer
from streams.stages.invalid_records import run_pure, store_invalid
from streams.tasks import together
from streams.topics import ATTEMPTS, DEAD_LETTERS

# Work that is done once for each webhook of a batch, such as counting health, is cheaper in large batches.
BATCH_RECORDS = 2000
RETRY_SECONDS = 1.0

# The values on each topic; all other topics have deliveries.
_VALUE_TYPES: dict[str, type[Delivery] | type[Attempt] | type[DeadLetter]] = {
    ATTEMPTS: Attempt,
    DEAD_LETTERS: DeadLetter,
}
# A record with its decoded value.
Read = tuple[Record, RecordedValue]


class RecordStage:
    """Stores batches in SQL, in partition order. Offsets are committed after the transaction."""

    def __init__(
        self,
        consumer: RecordConsumer,
        codec: Codec,
        recorder: Recorder,
        producer: RecordProducer,
        clock: Clock,
        telemetry: Telemetry,
        outages: Outages,
    ) -> None:
        self._consumer = consumer
        self._codec = codec
        self._recorder = recorder
        self._producer = producer
        self._clock = clock
        self._telemetry = telemetry
        self._outages = outages
        self._network = OwnNetwork()
        self._network_is_down = False
        self._buffer = WriteBuffer(consumer)
        self._owned: set[Partition] = set()
        # The partitions that wait for a newer release, with the readiness problem.
        self._newer: dict[Partition, str] = {}
        self._stored = StoredOffsets(consumer, telemetry, self._outages)
        self._now = asyncio.get_running_loop().time
        self._arrived = asyncio.Event()
        self._drained = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Serve until cancelled."""
        await together(lambda: self._consumer.run(self), self._write_regularly)

    async def drain(self, seconds: float) -> None:
        """Accept nothing more and store what arrived. Raises `TimeoutError` when it takes longer than `seconds`."""
        self._buffer.close()
        self._arrived.set()
        await asyncio.wait_for(self._drained.wait(), seconds)

    def readiness_problems(self) -> list[str]:
        """Which partitions wait for a newer release."""
        return list(self._newer.values())

    # -- called by the consumer --------------------------------------------------------------------------------

    def assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        self._buffer.open(partitions)
        self._owned.update(partitions)
        self._telemetry.count("rebalances_total")
        self._telemetry.info("partitions_assigned", count=len(partitions))

    def received(self, records: Sequence[Record]) -> None:
        if self._newer:
            # Records of a partition that waits may be on their way still.
            records = [record for record in records if record.partition not in self._newer]
        self._buffer.add(records, self._now(), self._clock.now())
        self._arrived.set()

    async def revoked(self, partitions: Sequence[Partition], *, lost: bool) -> Mapping[Partition, Commit]:
        self._buffer.forget(partitions)
        for partition in partitions:
            self._newer.pop(partition, None)
        self._gauge_newer()
        self._telemetry.info("partitions_lost" if lost else "partitions_revoked", count=len(partitions))
        if not lost:
            # The next member does not have to store the batch in progress again.
            await asyncio.wait({asyncio.ensure_future(self._idle.wait())}, timeout=3)
        self._owned.difference_update(partitions)
        ends = self._stored.pop(partitions)
        return {} if lost else ends

    # -- batches ----------------------------------------------------------------------------------------------

    async def _write_regularly(self) -> None:
        while True:
            self._arrived.clear()
            if batch := self._buffer.take(BATCH_RECORDS, self._now()):
                self._idle.clear()
                try:
                    await self._write(batch)
                finally:
                    self._idle.set()
                await self._stored.commit()
            elif self._buffer.closed:
                self._drained.set()
                await self._arrived.wait()
            else:
                try:
                    async with asyncio.timeout_at(self._wakes_at()):
                        await self._arrived.wait()
                except TimeoutError:
                    # After the last record of a day no batch follows whose commit would include a refused one.
                    await self._stored.commit()

    def _wakes_at(self) -> float | None:
        next_at = self._buffer.next_at()
        if not self._stored:
            return next_at
        again_at = self._now() + RETRY_SECONDS
        return again_at if next_at is None else min(next_at, again_at)

    async def _write(self, records: Sequence[Record]) -> None:
        decoded = self._read(records)
        read = [(record, value) for record, value in decoded if isinstance(value, RecordedValue)]
        invalid = [(record, error) for record, error in decoded if isinstance(error, str)]
        ends = {record.partition: record.offset + 1 for record, _ in decoded}
        self._check_own_network([entry for _, entry in read])
        invalid += await self._store(read)
        await store_invalid(self._producer, self._telemetry, invalid)
        self._stored.add({partition: end for partition, end in ends.items() if partition in self._owned})

    def _read(self, records: Sequence[Record]) -> list[tuple[Record, RecordedValue | str]]:
        """Decode records; of an invalid one, the error. A partition ends before the record of a newer release."""
        decoded: list[tuple[Record, RecordedValue | str]] = []
        for record in records:
            if record.partition in self._newer:
                continue
            try:
                decoded.append((record, run_pure(partial(self._decode, record))))
            except NewerRecord as newer:
                self._wait_for_release(record, newer)
            except (InvalidRecord, Invalid) as wrong:
                decoded.append((record, str(wrong)))
        return decoded

    def _wait_for_release(self, record: Record, newer: NewerRecord) -> None:
        self._newer[record.partition] = wait_for_release(self._telemetry, record, newer)
        self._buffer.forget([record.partition])
        self._consumer.pause(record.partition, record.offset)
        self._gauge_newer()

    def _gauge_newer(self) -> None:
        self._telemetry.gauge("partitions_of_newer_release", len(self._newer))

    def _decode(self, record: Record) -> RecordedValue:
        value = self._codec.decode(record.value or b"")
        expected = _VALUE_TYPES.get(record.partition.topic, Delivery)
        if not isinstance(value, expected):
            raise InvalidRecord(f"a {type(value).__name__.lower()} does not belong on this topic")
        return RecordedValue(value, record.appended_at)

    def _check_own_network(self, entries: Sequence[RecordedValue]) -> None:
        self._network.learn(entry.value for entry in entries if isinstance(entry.value, Attempt))
        is_down = self._network.is_down()
        if is_down != self._network_is_down:
            if is_down:
                self._telemetry.warning("own_network_down", effect="network failures pause no webhook")
            else:
                self._telemetry.info("own_network_up")
        self._network_is_down = is_down
        self._telemetry.gauge("own_network_down", is_down)

    async def _store(self, read: Sequence[Read]) -> list[tuple[Record, str]]:
        """Store records. Returns those that cannot be stored at all, with the reason.

        A row that the database refuses, or that our own code fails at, is found by halving. It does not stop others.
        """
        if not read:
            return []
        entries = [entry for _, entry in read]
        try:
            folded = run_pure(partial(fold, entries))
            conflicts = await self._until_available(folded)
        except (Refused, InvalidRecord) as wrong:
            if len(read) == 1:
                return await self._store_stripped(*read[0], wrong)
            middle = len(read) // 2
            return [*await self._store(read[:middle]), *await self._store(read[middle:])]
        self._telemetry.count("records_stored_total", len(entries))
        if self._telemetry.is_debug_enabled:
            self._log_states(folded)
        return self._conflicting(read, folded, conflicts)

    def _log_states(self, folded: Batch) -> None:
        for one in folded.delivery_states:
            self._telemetry.debug(
                "delivery_recorded",
                delivery_id=one.delivery_id,
                event_id=one.event_id,
                webhook_id=one.webhook_id,
                account_id=one.account_id,
                state=str(one.state),
                attempts=one.attempts,
                tier=one.tier,
                reason=one.reason,
            )

    def _conflicting(
        self, read: Sequence[Read], folded: Batch, conflicts: Collection[EventKey]
    ) -> list[tuple[Record, str]]:
        """The records whose event is stored with another body."""
        invalid: list[tuple[Record, str]] = []
        for record, entry in read:
            if isinstance(entry.value, Attempt):
                continue
            delivery = entry.value.delivery if isinstance(entry.value, DeadLetter) else entry.value
            key = delivery.account_id, delivery.event_id
            if key in conflicts or delivery.body != folded.events[key].body:
                self._telemetry.count("conflicting_ids_total")
                invalid.append((record, str(ConflictingId(*key))))
        return invalid

    async def _store_stripped(self, record: Record, entry: RecordedValue, wrong: Exception) -> list[tuple[Record, str]]:
        self._telemetry.count("records_refused_total")
        self._telemetry.warning("record_stored_without_details", **record.place, why=str(wrong))
        try:
            await self._until_available(run_pure(lambda: fold([stripped(entry)])))
        except (Refused, InvalidRecord) as still_wrong:
            return [(record, f"it cannot be stored: {still_wrong}")]
        return []

    async def _until_available(self, folded: Batch) -> Collection[EventKey]:
        batch = replace(folded, own_network_is_down=self._network_is_down)
        return await self._outages.retry(lambda: self._recorder.record(batch), RETRY_SECONDS, ENCRYPTION_KEYS, DATABASE)
