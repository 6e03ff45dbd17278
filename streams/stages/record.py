"""record: store the outcome of each delivery in SQL, count health, pause webhooks."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery
from streams.core.deliveries.delivery_state import Batch, EventKey, RecordedValue, merge_records, strip_details
from streams.core.errors import ROW_ERRORS, ConflictingId, Invalid, InvalidRecord, NewerRecord
from streams.core.records.invalid_on_failure import invalid_on_failure
from streams.core.webhooks.network import OwnNetwork
from streams.outage import DATABASE, ENCRYPTION_KEYS, Outages
from streams.ports.kafka import Codec, Record, RecordConsumer, RecordProducer
from streams.ports.runtime import Clock, Telemetry
from streams.ports.storage import Recorder
from streams.stages.consuming.batch_consumer import BATCHING, BatchConsumer, Batching
from streams.stages.invalid_records import store_invalid
from streams.topics import ATTEMPTS, DEAD_LETTERS

RETRY_SECONDS = 1.0

# The values on each topic; all other topics have deliveries.
_VALUE_TYPES: dict[str, type[Delivery] | type[Attempt] | type[DeadLetter]] = {
    ATTEMPTS: Attempt,
    DEAD_LETTERS: DeadLetter,
}
# A record with its decoded value.
DecodedRecord = tuple[Record, RecordedValue]


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
        *,
        batching: Batching = BATCHING,
    ) -> None:
        self._codec = codec
        self._recorder = recorder
        self._producer = producer
        self._telemetry = telemetry
        self._outages = outages
        self._network = OwnNetwork()
        self._is_network_down = False
        self._batches = BatchConsumer(consumer, self._store_records, clock, telemetry, outages, batching=batching)

    async def run(self) -> None:
        """Serve until cancelled."""
        await self._batches.run()

    async def drain(self, seconds: float) -> None:
        """Accept no more records, and store those that arrived. Raises `TimeoutError` after `seconds`."""
        await self._batches.drain(seconds)

    def readiness_problems(self) -> list[str]:
        """Which partitions wait for a newer release."""
        return self._batches.readiness_problems()

    async def _store_records(self, records: Sequence[Record]) -> None:
        decoded_records = self._read(records)
        values = [(record, value) for record, value in decoded_records if isinstance(value, RecordedValue)]
        invalid = [(record, error) for record, error in decoded_records if isinstance(error, str)]
        self._check_own_network([entry for _, entry in values])
        invalid += await self._store(values)
        await store_invalid(self._producer, self._telemetry, invalid)
        self._batches.mark_stored({record.partition: record.offset + 1 for record, _ in decoded_records})

    def _read(self, records: Sequence[Record]) -> list[tuple[Record, RecordedValue | str]]:
        """Decode records; an invalid one gives its error. A partition ends before the record of a newer release."""
        decoded_records: list[tuple[Record, RecordedValue | str]] = []
        for record in records:
            if self._batches.is_waiting(record.partition):
                continue
            try:
                decoded_records.append((record, self._decode(record)))
            except NewerRecord as error:
                self._batches.pause_for_newer_release(record, error)
            except (InvalidRecord, Invalid) as error:
                decoded_records.append((record, str(error)))
        return decoded_records

    @invalid_on_failure
    def _decode(self, record: Record) -> RecordedValue:
        value = self._codec.decode(record.value or b"")
        expected_type = _VALUE_TYPES.get(record.partition.topic, Delivery)
        if not isinstance(value, expected_type):
            raise InvalidRecord(f"a {type(value).__name__.lower()} does not belong on this topic")
        return RecordedValue(value, record.appended_at)

    def _check_own_network(self, entries: Sequence[RecordedValue]) -> None:
        self._network.record_attempts(entry.value for entry in entries if isinstance(entry.value, Attempt))
        is_down = self._network.is_down()
        if is_down != self._is_network_down:
            if is_down:
                self._telemetry.warning("own_network_down", effect="network failures pause no webhook")
            else:
                self._telemetry.info("own_network_up")
        self._is_network_down = is_down
        self._telemetry.gauge("own_network_down", is_down)

    async def _store(self, values: Sequence[DecodedRecord]) -> list[tuple[Record, str]]:
        """Store records. Returns those that cannot be stored at all, with the reason.

        A row that the database refuses, or on which the code fails, is found by halving. It does not stop the others.
        """
        if not values:
            return []
        entries = [entry for _, entry in values]
        try:
            batch = _merge_records(entries)
            conflicts = await self._store_when_available(batch)
        except ROW_ERRORS as error:
            if len(values) == 1:
                return await self._store_without_details(*values[0], error)
            middle = len(values) // 2
            return [*await self._store(values[:middle]), *await self._store(values[middle:])]
        self._telemetry.count("records_stored_total", len(entries))
        if self._telemetry.is_debug_enabled:
            self._log_states(batch)
        return self._find_conflicts(values, batch, conflicts)

    def _log_states(self, batch: Batch) -> None:
        for delivery_state in batch.delivery_states:
            self._telemetry.debug(
                "delivery_recorded",
                delivery_id=delivery_state.delivery_id,
                event_id=delivery_state.event_id,
                webhook_id=delivery_state.webhook_id,
                account_id=delivery_state.account_id,
                state=str(delivery_state.state),
                attempts=delivery_state.attempts,
                tier=delivery_state.tier,
                reason=delivery_state.reason,
            )

    def _find_conflicts(
        self, values: Sequence[DecodedRecord], batch: Batch, conflicts: Collection[EventKey]
    ) -> list[tuple[Record, str]]:
        """The records whose event is stored with another body."""
        invalid: list[tuple[Record, str]] = []
        for record, entry in values:
            if isinstance(entry.value, Attempt):
                continue
            delivery = entry.value.delivery if isinstance(entry.value, DeadLetter) else entry.value
            key = delivery.account_id, delivery.event_id
            if key in conflicts or delivery.body != batch.events[key].body:
                self._telemetry.count("conflicting_ids_total")
                invalid.append((record, str(ConflictingId(*key))))
        return invalid

    async def _store_without_details(
        self, record: Record, entry: RecordedValue, cause: Exception
    ) -> list[tuple[Record, str]]:
        self._telemetry.count("records_refused_total")
        self._telemetry.warning("record_stored_without_details", **record.place, why=str(cause))
        try:
            await self._store_when_available(_merge_records([strip_details(entry)]))
        except ROW_ERRORS as error:
            return [(record, f"it cannot be stored: {error}")]
        return []

    async def _store_when_available(self, pending_batch: Batch) -> Collection[EventKey]:
        batch = replace(pending_batch, own_network_is_down=self._is_network_down)
        return await self._outages.retry(lambda: self._recorder.record(batch), RETRY_SECONDS, ENCRYPTION_KEYS, DATABASE)


@invalid_on_failure
def _merge_records(entries: Sequence[RecordedValue]) -> Batch:
    return merge_records(entries)
