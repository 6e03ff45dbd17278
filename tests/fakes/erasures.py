"""The topic `erasures` on a Kafka in memory."""

from collections.abc import Sequence
from contextlib import suppress

from fakes.delivery import FakeEncryption
from fakes.kafka import FakeKafka
from streams.adapters.kafka.compacted.erasure_records import apply_record
from streams.core.erasures.erasure import ErasedLearner
from streams.core.erasures.erasure_record import decode_erasure_record
from streams.core.erasures.erasures_table import ErasuresTable
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.compacted_table import key_of
from streams.ports.kafka import Partition, Record
from streams.topics import ERASURES


class FakeErasureTopic:
    """The table of a process that reads the topic from its start, and an `ErasureHistory`.

    With `follows` it reads each record at once. `compacted` leaves the last record of each key.
    """

    portion_records = 2

    def __init__(self, kafka: FakeKafka, *, follows: bool = False, compacted: bool = False) -> None:
        self.table = ErasuresTable(FakeEncryption().decrypt)
        self._kafka = kafka
        self._is_compacted = compacted
        if follows:
            kafka.appended.append(self.read_on)
        self.read_on()

    @property
    def records(self) -> Sequence[Record]:
        records = self._kafka.records(Partition(ERASURES, 0))
        if self._is_compacted:
            return sorted({record.key: record for record in records}.values(), key=lambda record: record.offset)
        return records

    def read_on(self) -> None:
        for record in self.records:
            if record.offset < self.table.position:
                continue
            try:
                apply_record(self.table, record)
            except InvalidRecord as error:
                is_newer_release = isinstance(error, NewerRecord)
                self.table.skip_invalid(record.offset, key_of(record.key), is_newer_release=is_newer_release)

    async def read(self, offset: int) -> tuple[Sequence[ErasedLearner], int | None]:
        portion = [record for record in self.records if record.offset >= offset][: self.portion_records]
        erased = []
        for record in portion:
            with suppress(InvalidRecord):
                value = decode_erasure_record(record.key, record.value, record.headers)
                if isinstance(value, ErasedLearner):
                    erased.append(value)
        return erased, portion[-1].offset + 1 if portion else None
