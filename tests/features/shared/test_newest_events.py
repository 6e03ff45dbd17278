"""The newest events of an account are read from the end of the topic."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any

from builders import NOON, event
from fakes import FakeClock, FakeKafka
from fakes.history import FakeEventHistory
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.backfill import OffsetRange
from streams.core.deliveries.delivery_state import EventKey, RecordedEvent
from streams.core.queues.request_class import RequestClass
from streams.features.shared.newest_events import (
    FIRST_STEP_OFFSETS,
    READ_TIMEOUT_SECONDS,
    NewestEventReader,
    NewestEvents,
)
from streams.ports.kafka import HistoryPortion, Outgoing
from streams.request_owner import RequestOwner, work_for
from streams.topics import SESSION_EVENTS

CODEC = AvroCodec()


class CountingHistory(FakeEventHistory):
    """Counts the records that were read."""

    records_read = 0

    async def read(self, ranges: Sequence[OffsetRange], limit: int) -> HistoryPortion:
        portion = await super().read(ranges, limit)
        self.records_read += len(portion.records)
        return portion


class ReaderFixture:
    """A topic in memory. `erased_ids` are events of erased learners."""

    def __init__(self, first_step_offsets: int = FIRST_STEP_OFFSETS) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock)
        self.history = CountingHistory(self.kafka)
        self.erased_ids: set[str] = set()
        self.reader = NewestEventReader(lambda: self.history, self, CODEC, self.clock, first_step_offsets)

    async def find_erased(self, events: Mapping[EventKey, RecordedEvent]) -> Collection[EventKey]:
        return [key for key in events if key[1] in self.erased_ids]

    def publish(self, event_id: str, key: bytes = b"key", **changes: Any) -> None:
        self.kafka.append(Outgoing(SESSION_EVENTS, key, CODEC.encode(event(id=event_id, **changes))))
        self.clock.advance(1)

    async def read(self, limit: int = 50) -> NewestEvents:
        return await self.reader.read("acme", limit)


def ids_of(newest: NewestEvents) -> list[str]:
    return [appended.event.id for appended in newest.events]


async def test_the_newest_come_first_and_others_are_left_out() -> None:
    fixture = ReaderFixture()
    fixture.publish("evt_1")
    fixture.publish("evt_other", account_id="globex")
    fixture.kafka.append(Outgoing(SESSION_EVENTS, b"key", b"acme, and nothing that a codec reads"))
    fixture.publish("evt_erased")
    fixture.publish("evt_2", key=b"another partition")
    fixture.erased_ids = {"evt_erased"}
    newest = await fixture.read()
    assert ids_of(newest) == ["evt_2", "evt_1"]
    assert newest.complete_since is None


async def test_only_the_end_of_a_long_topic_is_read() -> None:
    fixture = ReaderFixture(first_step_offsets=10)
    for number in range(200):
        fixture.publish(f"evt_{number}")
    newest = await fixture.read(limit=5)
    assert ids_of(newest) == [f"evt_{number}" for number in range(199, 194, -1)]
    assert fixture.history.records_read == 10
    # The tenth from the end, a second apart.
    assert newest.complete_since == NOON + timedelta(seconds=190)


async def test_an_account_with_few_events_is_read_further_back() -> None:
    fixture = ReaderFixture(first_step_offsets=10)
    fixture.publish("evt_old")
    for number in range(120):
        fixture.publish(f"evt_{number}", account_id="globex")
    newest = await fixture.read()
    assert ids_of(newest) == ["evt_old"]
    assert newest.complete_since is None
    assert fixture.history.records_read == 121


async def test_what_was_not_read_in_time_is_said() -> None:
    fixture = ReaderFixture()
    fixture.publish("evt_1")
    began_at = asyncio.get_running_loop().time() - READ_TIMEOUT_SECONDS
    with work_for(RequestOwner(RequestClass.SLOW, "acme", began_at)):
        newest = await fixture.read()
    assert newest == NewestEvents([], fixture.clock.now())
