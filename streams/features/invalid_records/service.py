"""Produce invalid records again, to the topics that they came from."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from streams.core.errors import Conflict, RecordsRefused, Unavailable
from streams.core.records.invalid_record import StoredRecord
from streams.features.invalid_records.storage import SqlReplayedRecords
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.audit_trail import new_entry
from streams.ports.kafka import Outgoing, RecordProducer
from streams.ports.runtime import Clock, ProcessLease

BATCH_SIZE = 100


@dataclass(slots=True)
class ReplayResult:
    """The number of records that were produced again, and why other records were not, by id.

    `skipped` counts the records that were produced again before.
    """

    count: int = 0
    skipped: int = 0
    failures: dict[str, str] = field(default_factory=dict)


@dataclass
class InvalidRecordService:
    """`_topics` are the deployment's topics, without prefix."""

    _producer: RecordProducer
    _audit: SqlAuditLog
    _clock: Clock
    _topics: Collection[str]
    _replayed: SqlReplayedRecords
    _lease: ProcessLease

    async def replay(
        self,
        records: Iterable[StoredRecord],
        on_progress: Callable[[int], None] = lambda count: None,
        *,
        actor: str,
        is_repeated: bool = True,
    ) -> ReplayResult:
        """Produce each record again as it was; `on_progress` gets the number done.

        A failed record does not stop the others. Unless `is_repeated`, skips records that were produced again before:
        a record that is still invalid becomes a new one. An event that was delivered before may be sent again,
        with the same id. Raises `Conflict` while another replay runs.
        """
        result = ReplayResult()
        try:
            for portion in _portions(records):
                await self._require_lease()
                new_records = portion if is_repeated else await self._replayed.without_replayed(portion)
                result.skipped += len(portion) - len(new_records)
                await self._replay(new_records, result, actor)
                on_progress(result.count + result.skipped + len(result.failures))
        finally:
            with suppress(Unavailable):  # The lease ends by itself.
                await self._lease.release()
        return result

    async def _require_lease(self) -> None:
        # Two replays at once would produce the same records twice.
        if not await self._lease.renew():
            raise Conflict("another replay of invalid records is under way: wait for its end")

    async def _replay(self, portion: Sequence[StoredRecord], result: ReplayResult, actor: str) -> None:
        outgoing: dict[str, Outgoing] = {}
        for record in portion:
            try:
                outgoing[record.id] = self._to_outgoing(record)
            except Conflict as error:
                result.failures[record.id] = str(error)
        ids = list(outgoing)
        try:
            await self._producer.produce(list(outgoing.values()))
        except RecordsRefused as error:
            result.failures |= {ids[index]: f"Kafka refuses it: {reason}" for index, reason in error.reasons.items()}
        if produced_ids := [record_id for record_id in ids if record_id not in result.failures]:
            produced_records = [record for record in portion if record.id in set(produced_ids)]
            await self._replayed.add(produced_records, self._clock.now())
            await self._audit.add(
                new_entry(self._clock, actor, "invalid_records.replayed", produced_ids[0], count=len(produced_ids))
            )
        result.count += len(produced_ids)

    def _to_outgoing(self, record: StoredRecord) -> Outgoing:
        if record.topic not in self._topics:
            raise Conflict(f"its topic {record.topic!r} is not one of this deployment")
        if not record.is_whole:
            place = f"offset {record.offset} of partition {record.partition} of {record.topic}"
            raise Conflict(f"only its start is stored; the whole record is at {place}, until retention deletes it")
        return Outgoing(record.topic, record.key, record.value, record.headers)


def _portions(records: Iterable[StoredRecord]) -> Iterator[Sequence[StoredRecord]]:
    iterator = iter(records)
    while portion := list(islice(iterator, BATCH_SIZE)):
        yield portion
