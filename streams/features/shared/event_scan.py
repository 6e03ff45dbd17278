"""Read past records of `session-events` in portions, for as long as a person can wait."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from streams.core.deliveries.backfill import OffsetRange, remaining_ranges, without_empty
from streams.core.errors import InvalidRecord
from streams.core.events.event import Event
from streams.ports.kafka import Codec, EventHistory, Record
from streams.request_owner import request_started_at

RECORDS_PER_READ = 2000
RECORDS_PER_TURN = 50


@dataclass
class EventScan:
    """`unread` has the remaining offsets. The caller decides what to do when the scan is late."""

    _history: EventHistory
    _deadline: float
    unread: tuple[OffsetRange, ...]
    oldest_available: datetime | None

    @classmethod
    async def begin(cls, history: EventHistory, since: datetime, until: datetime, seconds: float) -> "EventScan":
        """A scan of this period; the request's wait for its place counts towards its time. Raises `Unavailable`."""
        deadline = request_started_at(asyncio.get_running_loop().time()) + seconds
        period = await history.period(since, until)
        return cls(history, deadline, without_empty(period.ranges), period.oldest_available)

    @property
    def is_late(self) -> bool:
        return asyncio.get_running_loop().time() >= self._deadline

    async def read(self) -> Sequence[Record]:
        """The next records. Raises `Unavailable`."""
        portion = await self._history.read(self.unread, RECORDS_PER_READ)
        self.unread = remaining_ranges(self.unread, portion.positions)
        return portion.records


async def events_with(text: str, records: Iterable[Record], codec: Codec) -> AsyncIterator[tuple[Record, Event]]:
    """The events that contain this text. Other work of the process gets its turn after each portion."""
    searched = text.encode()
    for count, record in enumerate(records, 1):
        # Most records hold other events: their bytes show that without decoding.
        if searched in (record.value or b"") and (event := _decode(record, codec)):
            yield record, event
        if count % RECORDS_PER_TURN == 0:
            await asyncio.sleep(0)


def _decode(record: Record, codec: Codec) -> Event | None:
    """The event of a record; None if it has none, or fan-out has stored it as invalid."""
    try:
        value = codec.decode(record.value or b"")
    except InvalidRecord:
        return None
    return value if isinstance(value, Event) else None
