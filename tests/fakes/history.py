"""The past of `session-events` on a Kafka in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fakes.kafka import FakeKafka
from streams.core.deliveries.backfill import OffsetRange, Period
from streams.core.errors import Unavailable
from streams.ports.kafka import HistoryPortion, Record
from streams.topics import SESSION_EVENTS


@dataclass
class FakeEventHistory:
    """An `EventHistory`. It counts its reads; while `away` it raises `Unavailable`."""

    kafka: FakeKafka
    away: bool = False
    reads: int = 0

    async def period(self, since: datetime, until: datetime) -> Period:
        self._check()
        ranges, oldest = list[OffsetRange](), list[datetime]()
        for partition in self.kafka.partitions(SESSION_EVENTS):
            records = self.kafka.records(partition)
            start = sum(record.appended_at < since for record in records)
            ranges.append(OffsetRange(partition.number, start, sum(record.appended_at < until for record in records)))
            oldest += [record.appended_at for record in records[:1]]
        return Period(tuple(ranges), min(oldest, default=None))

    async def read(self, ranges: Sequence[OffsetRange], limit: int) -> HistoryPortion:
        self._check()
        self.reads += 1
        records, positions = list[Record](), dict[int, int]()
        partitions = {partition.number: partition for partition in self.kafka.partitions(SESSION_EVENTS)}
        for one in ranges:
            found = self.kafka.records(partitions[one.partition])[one.start : one.end][: limit - len(records)]
            records += found
            positions[one.partition] = one.start + len(found)
        return HistoryPortion(records, positions)

    def _check(self) -> None:
        if self.away:
            raise Unavailable("Kafka does not answer")
