"""A job leaves out nothing without a word, in whatever order `record` stores states and payloads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import Store, publish_all, with_portions
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.backfill import Backfill, OffsetRange, Period
from streams.core.deliveries.delivery import Delivery, HoldReason, State, Trigger
from streams.core.deliveries.delivery_state import Batch, DeliveryState, RecordedValue, merge_records
from streams.core.deliveries.job import Job, JobKind
from streams.core.deliveries.outcome import OutcomeKind

# The store is the same for all examples of a test: a database with tables takes long to make.
FEW = settings(max_examples=settings().max_examples // 4, suppress_health_check=[HealthCheck.function_scoped_fixture])
RUNS = count(1)
NEVER = 1000
WANTED: dict[JobKind, dict[str, Any]] = {
    JobKind.REPLAY: {"states": (State.DELIVERED, State.DEAD), "without_tests": True},
    JobKind.RETRY: {"state": State.WAITING, "in_tier": True},
    JobKind.DISCARD: {"state": State.DEAD},
}


@dataclass(frozen=True)
class Late:
    """When a delivery's state and its payload are recorded, and when a person retries it: seconds after a job began.

    What is recorded at 0 is there before.
    """

    state_at: int = 0
    payload_at: int = 0
    retried_at: int = NEVER


# A payload comes up to ten seconds after the attempt.
LATE = st.builds(Late, st.integers(0, 4), st.integers(0, 12) | st.just(NEVER), st.integers(1, 6) | st.just(NEVER))


@dataclass
class Run:
    """One job. The store has the deliveries of earlier runs too: each run has an hour of its own."""

    store: Store
    kind: JobKind
    late: Sequence[Late]
    has_backfill: bool = False
    number: int = field(default_factory=RUNS.__next__)
    retried: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.began_at = self.store.clock.now()
        self.since = NOON - timedelta(days=365) + timedelta(hours=self.number)
        self.owed = [
            delivery(event_id=f"evt_{self.number}_{index}", first_seen_at=self.since + timedelta(seconds=index))
            for index in range(len(self.late))
        ]

    async def finish(self) -> Job:
        await self._record(range(1))
        entry = AuditEntry(f"audit_{self.number}", "ada", "webhook.replayed", "wh_crm", NOON, "acme")
        until = self.began_at if self.kind is JobKind.REPLAY else None
        wanted = DeliveryFilter(
            "acme", "wh_crm", since=self.since, until=until, changed_until=self.began_at, **WANTED[self.kind]
        )
        backfill = Backfill() if self.has_backfill else None
        job = Job(f"job_{self.number}", "acme", self.kind, wanted, self.began_at, backfill=backfill)
        job = await self.store.jobs.add(job, entry)
        for second in range(1, NEVER):
            job = await (self._backfill(job) if job.is_backfilling else self.store.jobs.do_next_portion(job.id))
            if job.finished_at is not None:
                return job
            # After the last payload nothing happens until the job gives up.
            self.store.clock.advance(1 if second < 16 else 60)
            await self._deliver_again()
            await self._record(range(second, second + 1))
        raise AssertionError("the job does not end")

    async def states(self) -> dict[str, DeliveryState]:
        found = [await self.store.delivery_log.find(one.id) for one in self.owed]
        return {one.delivery_state.delivery_id: one.delivery_state for one in found if one is not None}

    async def _record(self, seconds: range) -> None:
        values = []
        for late, owed in zip(self.late, self.owed, strict=True):
            if late.state_at in seconds:
                values.append(RecordedValue(self._recorded(owed), owed.first_seen_at))
            if late.payload_at in seconds:
                values.append(RecordedValue(owed, owed.first_seen_at))
        if values:
            await self.store.recorder.record(merge_records(values))
        for late, owed in zip(self.late, self.owed, strict=True):
            if late.retried_at in seconds and await self.store.replays.replay(DeliveryFilter(ids=[owed.id])):
                self.retried.add(owed.id)

    def _recorded(self, owed: Delivery) -> Any:
        if self.kind is JobKind.DISCARD:
            return dead_letter(delivery=owed._replace(step=9))
        made = attempt(event_id=owed.event_id, first_seen_at=owed.first_seen_at, step=9)
        if self.kind is JobKind.REPLAY:
            return made
        return made._replace(next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)

    async def _deliver_again(self) -> None:
        """What was released is recorded at once, as of a broker whose clock is behind."""
        held = (await self.store.delivery_log.list(DeliveryFilter("acme", state=State.HELD, since=self.since))).rows
        if held:
            made = [
                attempt(event_id=one.event_id, first_seen_at=one.first_seen_at, generation=one.generation, step=9)
                for one in held
            ]
            await self.store.recorder.record(merge_records(RecordedValue(one, self.since) for one in made))

    async def _backfill(self, job: Job) -> Job:
        """What the stage does: it waits until the events are 15 seconds old."""
        assert job.backfill is not None
        if job.backfill.ranges is None:
            period = Period((OffsetRange(0, 0, len(self.owed)),), self.since)
            return await self.store.jobs.store_backfill(job, job.backfill.begin(period), Batch())
        if self.store.clock.now() < self.began_at + timedelta(seconds=15):
            return job
        missing = [one._replace(trigger=Trigger.MANUAL, hold_reason=HoldReason.REPLAY) for one in self.owed]
        at = job.filter.change_at(self.store.clock.now())
        batch = merge_records(RecordedValue(one, at) for one in missing)
        return await self.store.jobs.store_backfill(job, job.backfill.after_reading({0: len(self.owed)}), batch)


@pytest.fixture
async def crm(store: Store) -> Store:
    await publish_all(store)
    return with_portions(store, 2)


@pytest.mark.parametrize("has_backfill", [False, True])
@FEW
@given(st.lists(LATE, min_size=1, max_size=5))
@example([Late(), Late(payload_at=5), Late()])
@example([Late(state_at=4, payload_at=12), Late()])
async def test_a_replay_sends_or_names_each_match(crm: Store, has_backfill: bool, late: list[Late]) -> None:
    run = Run(crm, JobKind.REPLAY, late, has_backfill)
    job = await run.finish()
    await check(run, job)
    states = await run.states()
    # Its period ends with its beginning, so that all of these belong to it: a backfill also brings the payload.
    sendable = {owed.id for one, owed in zip(late, run.owed, strict=True) if has_backfill or one.payload_at < NEVER}
    assert {states[name].generation for name in sendable - run.retried} <= {2}


@FEW
@given(st.lists(LATE, min_size=1, max_size=5))
async def test_a_retry_sends_or_names_each_match(crm: Store, late: list[Late]) -> None:
    run = Run(crm, JobKind.RETRY, late)
    await check(run, await run.finish())


@FEW
@given(st.lists(LATE, min_size=1, max_size=5))
async def test_a_discard_ends_each_match(crm: Store, late: list[Late]) -> None:
    # A retry would hide what the job did.
    run = Run(crm, JobKind.DISCARD, [replace(one, retried_at=NEVER) for one in late])
    job = await run.finish()
    await check(run, job)
    assert job.failed == 0


async def check(run: Run, job: Job) -> None:
    """What matched at the beginning is done, failed, or was changed by a person; nothing is done twice."""
    left = (await run.store.delivery_log.summary(job.filter)).count
    assert job.failed == left
    assert job.total == job.done + job.failed + job.unmatched
    states, done = await run.states(), 0
    for late, owed in zip(run.late, run.owed, strict=True):
        state = states.get(owed.id)
        if state is None:
            continue
        retries = owed.id in run.retried
        by_job = state.state is State.DISCARDED or state.generation - 1 - retries
        assert by_job in (0, 1)
        done += by_job
        if late.state_at == 0 and not by_job and not retries:
            assert late.payload_at == NEVER
    assert job.done == done
