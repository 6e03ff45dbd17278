"""The newest events of an account on `session-events`, including those that no webhook wanted."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.deliveries.backfill import OffsetRange, remaining_ranges, without_empty
from streams.core.deliveries.delivery_state import RecordedEvent
from streams.core.errors import Invalid, InvalidRecord
from streams.core.events.event import Event, event_and_body, event_hash, subjects_of_event
from streams.features.shared.in_turns import iterate_cooperatively
from streams.ports.kafka import Codec, EventHistory, Record
from streams.ports.runtime import Clock
from streams.ports.storage import ErasedEvents
from streams.request_owner import began_at

# A person waits for the page.
READ_TIMEOUT_SECONDS = 2.0
# The topic's default retention.
MAX_AGE = timedelta(days=7)
# Offsets of each partition, backwards from its end; each step reads four times as many.
FIRST_STEP_OFFSETS = 250
RECORDS_PER_READ = 2000


class AppendedEvent(NamedTuple):
    """An event on the topic, with its append time."""

    event: Event
    appended_at: datetime


@dataclass(frozen=True, slots=True)
class NewestEvents:
    """Newest first. From `complete_since` on, an append time, no event is missing.

    `complete_since` is None if the whole topic was read.
    """

    events: Sequence[AppendedEvent]
    complete_since: datetime | None


@dataclass
class NewestEventReader:
    """`_history` is called for each reading, so that nothing else needs Kafka."""

    _history: Callable[[], EventHistory]
    _erased: ErasedEvents
    _codec: Codec
    _clock: Clock
    first_step_offsets: int = FIRST_STEP_OFFSETS

    async def read(self, account_id: str, limit: int) -> NewestEvents:
        """Read the topic backwards, until there are enough events or two seconds have passed. Raises `Unavailable`."""
        loop, history, now = asyncio.get_running_loop(), self._history(), self._clock.now()
        deadline = began_at(loop.time()) + READ_TIMEOUT_SECONDS
        # The brokers' clock may be ahead of this process's clock.
        period = await history.period(now - MAX_AGE, now + timedelta(minutes=1))
        unread = {offset_range.partition: offset_range for offset_range in without_empty(period.ranges)}
        # The oldest record read so far, by partition.
        read_since: dict[int, datetime] = {}
        found: list[AppendedEvent] = []
        bodies: dict[tuple[str, str], RecordedEvent] = {}
        step = self.first_step_offsets
        while unread and len(found) < limit and loop.time() < deadline:
            ranges = tuple(
                offset_range._replace(start=max(offset_range.start, offset_range.end - step))
                for offset_range in unread.values()
            )
            started = {offset_range.partition: offset_range.start for offset_range in ranges}
            while ranges and loop.time() < deadline:
                portion = await history.read(ranges, RECORDS_PER_READ)
                async for record in iterate_cooperatively(portion.records):
                    number = record.partition.number
                    read_since[number] = min(record.appended_at, read_since.get(number, record.appended_at))
                    if match := self._decode_match(record, account_id):
                        event, body = match
                        found.append(AppendedEvent(event, record.appended_at))
                        bodies[account_id, event.id] = RecordedEvent(
                            record.appended_at, body, event.trace_parent, subjects_of_event(event), event_hash(body)
                        )
                ranges = remaining_ranges(ranges, portion.positions)
            # Within a step records come in order, so the rest of the step is newer than what was read.
            for left in ranges:
                read_since[left.partition] = now
            if ranges:
                break
            unread = _before(unread, started)
            step *= 4
        erased_keys = await self._erased.find_erased(bodies) if bodies else ()
        newest = sorted(
            (one for one in found if (account_id, one.event.id) not in erased_keys),
            key=lambda one: one.appended_at,
            reverse=True,
        )
        complete_since = max((read_since.get(number, now) for number in unread), default=None)
        return NewestEvents(newest[:limit], complete_since)

    def _decode_match(self, record: Record, account_id: str) -> tuple[Event, bytes] | None:
        """The event of a record with its body, if it belongs to this account and is valid."""
        # Most records belong to other accounts, which their bytes show without decoding.
        if account_id.encode() not in (record.value or b""):
            return None
        try:
            event, body = event_and_body(self._codec.decode(record.value or b""), record.appended_at)
        except (InvalidRecord, Invalid):
            return None
        return (event, body) if event.account_id == account_id else None


def _before(unread: dict[int, OffsetRange], starts: dict[int, int]) -> dict[int, OffsetRange]:
    """The rest of each partition before these offsets."""
    left = {number: offset_range._replace(end=starts[number]) for number, offset_range in unread.items()}
    return {number: offset_range for number, offset_range in left.items() if offset_range.start < offset_range.end}
