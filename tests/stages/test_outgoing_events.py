"""Events of our own leave, whatever Kafka refuses."""

import asyncio
from collections.abc import Sequence

import pytest

from fakes import FakeClock, FakeKafka, FakeTelemetry, cancel_others, postponed_work, until
from streams.core.accounts.usage import OutgoingEvent
from streams.core.failed_work import FIRST_RETRY_SECONDS
from streams.outage import Outages
from streams.stages.outgoing_events import send_outgoing_events
from streams.topics import SESSION_EVENTS


class FakeOutgoingEvents:
    """`OutgoingEvents` in memory."""

    def __init__(self, *events: OutgoingEvent) -> None:
        self.rows = list(events)

    async def list_due(self, limit: int) -> Sequence[OutgoingEvent]:
        await asyncio.sleep(0)
        return self.rows[:limit]

    async def wait(self) -> None:
        await asyncio.sleep(0)

    async def remove(self, ids: Sequence[str]) -> None:
        self.rows = [one for one in self.rows if one.id not in ids]


@pytest.mark.parametrize("at_once", [1, 500])
async def test_an_event_that_kafka_refuses_stops_no_other(at_once: int) -> None:
    clock, telemetry = FakeClock(), FakeTelemetry()
    kafka = FakeKafka(clock)
    kafka.most_bytes[SESSION_EVENTS] = 100
    large = OutgoingEvent("evt_1", "key", b"x" * 200)
    waiting = FakeOutgoingEvents(large, *(OutgoingEvent(f"evt_{n}", "key", b"x") for n in range(2, 5)))
    work = postponed_work(telemetry, clock)
    asyncio.create_task(  # noqa: RUF006
        send_outgoing_events(
            waiting, kafka, telemetry, Outages(telemetry), work, batch_size=at_once, retry_seconds=0.01
        )
    )
    await until(lambda: waiting.rows == [large])
    assert telemetry.counts["outgoing_events_total"] == 3
    assert [about["work_id"] for event, about in telemetry.logged if event == "work_postponed"] == ["evt_1"]
    kafka.most_bytes[SESSION_EVENTS] = 1000
    clock.advance(FIRST_RETRY_SECONDS)
    await until(lambda: not waiting.rows)
    await cancel_others()
