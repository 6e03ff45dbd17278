"""A backfill adds deliveries for events that a webhook has no delivery of."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from builders import NOON, delivery, event, webhook
from fakes import (
    FakeClock,
    FakeEventHistory,
    FakeJobs,
    FakeKafka,
    FakeOutbox,
    FakeRecorder,
    FakeReplays,
    FakeTelemetry,
    cancel_others,
    postponed_work,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.backfill import Backfill, backfill_delivery
from streams.core.deliveries.delivery import HoldReason, State, Trigger
from streams.core.deliveries.delivery_state import Batch, state_of_record
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.errors import Invalid
from streams.core.events.event import render
from streams.features.replays.backfill import HistoryBackfill
from streams.features.replays.stage import run_jobs
from streams.outage import Outages
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS

CODEC = AvroCodec()
ENTRY = AuditEntry("audit_1", "ada", "webhook.replayed", "wh_crm", NOON, "acme")


class CrashingJobs(FakeJobs):
    """`Jobs` whose process dies at the n-th store of a backfill, before or after it: the call never returns."""

    stores = 0
    dies_at = 0
    after = False

    async def store_backfill(self, job: Job, progress: Backfill, batch: Batch) -> Job:
        self.stores += 1
        if self.stores == self.dies_at:
            if self.after:
                await super().store_backfill(job, progress, batch)
            await asyncio.Event().wait()
        return await super().store_backfill(job, progress, batch)


class Backfilling:
    """The jobs of `publish`, on fakes."""

    def __init__(self) -> None:
        self.clock, self.outbox, self.telemetry = FakeClock(), FakeOutbox(), FakeTelemetry()
        self.outbox.put(webhook())
        self.recorder = FakeRecorder(self.outbox)
        self.kafka = FakeKafka(self.clock)
        self.history = FakeEventHistory(self.kafka)
        self.jobs = CrashingJobs(FakeReplays(self.recorder, self.clock))

    def publish(self, *numbers: int, **changes: Any) -> None:
        for number in numbers:
            happened = event(id=f"evt_{number}", **changes)
            self.kafka.append(Outgoing(SESSION_EVENTS, b"%d" % number, CODEC.encode(happened)))

    async def start(self, **wanted: Any) -> None:
        """Start a backfill of the last hour."""
        now = self.clock.now()
        period = DeliveryFilter("acme", "wh_crm", since=now - timedelta(hours=1), until=now, states=(), **wanted)
        job = Job("job_1", "acme", JobKind.REPLAY, period, now, backfill=Backfill())
        await self.jobs.add(job, ENTRY)

    @property
    def job(self) -> Job:
        return self.jobs.jobs["job_1"]

    def stage(self) -> HistoryBackfill:
        return HistoryBackfill(
            self.jobs,
            self.outbox,
            self.history,
            CODEC,
            self.clock,
            Outages(self.telemetry),
            records_per_read=2,
            retry_pause_seconds=0,
        )

    async def run_jobs(self) -> None:
        work = postponed_work(self.telemetry)
        await run_jobs(self.jobs, self.stage(), self.telemetry, work, poll_interval_seconds=0, portion_pause_seconds=0)

    async def finish(self) -> Backfill:
        """Run the jobs until this one ends, once its period is settled."""
        self.clock.advance(15)
        running = asyncio.create_task(self.run_jobs())
        await until(lambda: self.job.finished_at is not None or running.done())
        await cancel_others()
        assert self.job.backfill is not None
        return self.job.backfill

    def held(self) -> set[str]:
        states = self.recorder.delivery_states.values()
        return {one.event_id for one in states if (one.state, one.reason) == (State.HELD, HoldReason.REPLAY)}


@pytest.fixture
def backfilling() -> Backfilling:
    return Backfilling()


async def test_events_of_before_a_webhook_are_added(backfilling: Backfilling) -> None:
    backfilling.publish(1, 2, 3, 4, 5)
    backfilling.publish(6, account_id="globex")
    backfilling.clock.advance(60)
    backfilling.publish(7)
    backfilling.clock.advance(1)
    await backfilling.start()
    backfilling.clock.advance(60)
    progress = await backfilling.finish()
    assert backfilling.held() == {f"evt_{number}" for number in (1, 2, 3, 4, 5, 7)}
    assert (progress.added, progress.skipped, progress.records, progress.read) == (6, 0, 7, 7)
    state = backfilling.recorder.delivery_states[delivery(event_id="evt_1").id]
    assert (state.generation, state.trigger, state.first_seen_at) == (1, Trigger.MANUAL, NOON)
    assert backfilling.recorder.bodies["acme", "evt_1"] == render(event(id="evt_1"))


async def test_only_what_the_webhook_and_the_filter_want(backfilling: Backfilling) -> None:
    backfilling.outbox.put(webhook(event_types=frozenset({"session.completed", "session.launched"})))
    backfilling.publish(1)
    launched = {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"}
    backfilling.publish(2, type="session.launched", data=launched)
    backfilling.publish(3, type="package.updated", data={"packageId": "pkg_1", "version": "2"})
    backfilling.kafka.append(Outgoing(SESSION_EVENTS, b"k", b"junk"))
    backfilling.clock.advance(60)
    await backfilling.start(event_types=["session.launched"])
    assert (await backfilling.finish()).added == 1
    assert backfilling.held() == {"evt_2"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", range(1, 6))
async def test_a_kill_between_any_two_steps_loses_nothing(backfilling: Backfilling, dies_at: int, after: bool) -> None:
    backfilling.publish(1, 2, 3, 4, 5)
    backfilling.clock.advance(60)
    await backfilling.start()
    backfilling.clock.advance(15)
    backfilling.jobs.dies_at, backfilling.jobs.after = dies_at, after
    dying = asyncio.create_task(backfilling.run_jobs())
    await until(lambda: backfilling.jobs.stores == dies_at or backfilling.job.finished_at is not None or dying.done())
    await cancel_others()
    progress = await backfilling.finish()
    assert backfilling.held() == {f"evt_{number}" for number in range(1, 6)}
    assert (progress.added, progress.skipped, backfilling.job.status) == (5, 0, JobStatus.FINISHED)


async def test_a_young_event_waits_for_its_record(backfilling: Backfilling) -> None:
    backfilling.publish(1)
    backfilling.clock.advance(30)
    backfilling.publish(2)
    backfilling.clock.advance(1)
    await backfilling.start()
    running = asyncio.create_task(backfilling.run_jobs())
    await until(lambda: backfilling.history.reads > 3)
    assert backfilling.held() == {"evt_1"}
    # Fan-out made a delivery of it, and `record` stores it now.
    await backfilling.recorder.record(Batch([state_of_record(delivery(event_id="evt_2"), NOON)]))
    running.cancel()
    backfilling.clock.advance(20)
    assert (await backfilling.finish()).skipped == 1
    assert backfilling.held() == {"evt_1"}


async def test_a_deleted_webhook_gets_nothing(backfilling: Backfilling) -> None:
    backfilling.publish(1)
    backfilling.clock.advance(60)
    await backfilling.start()
    await backfilling.outbox.change("wh_crm", lambda known: None)
    assert (await backfilling.finish()).added == 0
    assert backfilling.held() == set()


async def test_a_topic_that_is_away_delays_no_other_job(backfilling: Backfilling) -> None:
    backfilling.publish(1)
    backfilling.clock.advance(60)
    await backfilling.start()
    other = Job("job_2", "acme", JobKind.DISCARD, DeliveryFilter("acme", state=State.DEAD), NOON)
    await backfilling.jobs.add(other, ENTRY)
    backfilling.history.away = True
    asyncio.create_task(backfilling.run_jobs())  # noqa: RUF006
    await until(lambda: backfilling.jobs.jobs["job_2"].finished_at is not None)
    assert backfilling.job.finished_at is None
    backfilling.history.away = False
    backfilling.clock.advance(15)
    await until(lambda: backfilling.job.finished_at is not None)
    assert backfilling.held() == {"evt_1"}


def test_a_backfilled_delivery_is_the_one_of_fan_out() -> None:
    found = backfill_delivery(event(), NOON, webhook(), DeliveryFilter())
    assert found is not None
    assert (found.id, found.body, found.first_seen_at) == (delivery().id, delivery().body, NOON)
    assert backfill_delivery(event(), NOON, webhook(), DeliveryFilter(since=NOON)) == found
    assert backfill_delivery(event(), NOON, webhook(), DeliveryFilter(until=NOON)) is None
    assert backfill_delivery(event(), NOON, webhook(), DeliveryFilter(since=NOON + timedelta(seconds=1))) is None
    assert backfill_delivery("junk", NOON, webhook(), DeliveryFilter()) is None
    # What fan-out stored as invalid does not become valid by waiting.
    with pytest.raises(Invalid, match="createdAt"):
        backfill_delivery(event(), NOON - timedelta(days=2), webhook(), DeliveryFilter())
