"""The newest events of an account on `session-events`, including those that no webhook wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from streams.core.deliveries.backfill import without_empty
from streams.core.deliveries.delivery_state import RecordedEvent
from streams.core.errors import Invalid, InvalidRecord
from streams.core.events.event import Event, event_and_body, event_hash, subjects_of_event
from streams.features.shared.event_scan import EventScan, events_with
from streams.ports.kafka import Codec, EventHistory, Record
from streams.ports.runtime import Clock
from streams.ports.storage import ErasedEvents

# A person waits for the page.
READ_TIMEOUT_SECONDS = 2.0
# The topic's default retention.
MAX_AGE = timedelta(days=7)
# Offsets of each partition, backwards from its end; each step reads four times as many.
FIRST_STEP_OFFSETS = 250


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
        now = self._clock.now()
        # The brokers' clock may be ahead of this process's clock.
        until = now + timedelta(minutes=1)
        scan = await EventScan.begin(self._history(), now - MAX_AGE, until, READ_TIMEOUT_SECONDS)
        unread = scan.unread
        # The oldest record read so far, by partition.
        read_since: dict[int, datetime] = {}
        found: list[AppendedEvent] = []
        bodies: dict[tuple[str, str], RecordedEvent] = {}
        step = self.first_step_offsets
        while unread and len(found) < limit and not scan.is_late:
            scan.unread = tuple(one._replace(start=max(one.start, one.end - step)) for one in unread)
            while scan.unread and not scan.is_late:
                records = await scan.read()
                for record in records:
                    number = record.partition.number
                    read_since[number] = min(record.appended_at, read_since.get(number, record.appended_at))
                async for record, event in events_with(account_id, records, self._codec):
                    if event.account_id == account_id and (body := _valid_body(event, record)):
                        found.append(AppendedEvent(event, record.appended_at))
                        bodies[account_id, event.id] = RecordedEvent(
                            record.appended_at, body, event.trace_parent, subjects_of_event(event), event_hash(body)
                        )
            # Within a step records come in order, so the rest of the step is newer than what was read.
            for left in scan.unread:
                read_since[left.partition] = now
            if scan.unread:
                break
            unread = without_empty(tuple(one._replace(end=max(one.start, one.end - step)) for one in unread))
            step *= 4
        erased_keys = await self._erased.find_erased(bodies) if bodies else ()
        newest = sorted(
            (one for one in found if (account_id, one.event.id) not in erased_keys),
            key=lambda one: one.appended_at,
            reverse=True,
        )
        complete_since = max((read_since.get(left.partition, now) for left in unread), default=None)
        return NewestEvents(newest[:limit], complete_since)


def _valid_body(event: Event, record: Record) -> bytes | None:
    """The body of a record's event; None if fan-out has stored it as invalid."""
    try:
        return event_and_body(event, record.appended_at)[1]
    except (InvalidRecord, Invalid):
        return None
