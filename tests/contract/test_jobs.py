"""Jobs change many deliveries, one portion at a time."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore, Store, publish_all
from streams.adapters.sql import jobs as jobs_module
from streams.core.account import DeliveryFilter
from streams.core.attempt import NextStep
from streams.core.audit import AuditEntry
from streams.core.delivery import State
from streams.core.delivery_state import RecordedValue, fold
from streams.core.job import Job, JobKind
from streams.core.outcome import OutcomeKind

ENTRY = AuditEntry("audit_1", "ada", "dead_letters.retried", "job_1", NOON, "acme")


def job(kind: JobKind = JobKind.RETRY, **wanted: Any) -> Job:
    wanted = {"account_id": "acme", "state": State.DEAD, "changed_until": NOON, **wanted}
    return Job("job_1", "acme", kind, DeliveryFilter(**wanted), NOON)


async def dead(store: Store, *numbers: int, webhook_id: str = "wh_crm", seconds: int = 0) -> None:
    """Record dead letters of this many seconds after noon."""
    dead = [delivery(event_id=f"evt_{number}", webhook_id=webhook_id, step=7, attempt=7) for number in numbers]
    at = NOON + timedelta(seconds=seconds)
    await store.recorder.record(fold([RecordedValue(dead_letter(delivery=one), at) for one in dead]))


async def finish(store: Store, job_id: str = "job_1") -> Job:
    while (job := await store.jobs.advance(job_id)).finished_at is None:
        store.clock.advance(1)
    return job


async def test_a_job_counts_the_deliveries_it_could_not_change(store: Store) -> None:
    await dead(store, 1, 2, 3)
    await dead(store, 4, webhook_id="wh_unknown")
    added = await store.jobs.add(job(), ENTRY)
    await dead(store, 5, seconds=1)
    assert (added.total, added.done) == (4, 0)
    assert [one.id for one in await store.jobs.unfinished()] == ["job_1"]
    done = await finish(store)
    assert (done.total, done.done, done.failed) == (4, 3, 1)
    assert await store.jobs.find("job_1") == done
    assert await store.jobs.unfinished() == []
    assert await store.jobs.advance("job_1") == done
    left = (await store.producer.list(DeliveryFilter(state=State.DEAD))).rows
    assert {state.event_id for state in left} == {"evt_4", "evt_5"}
    assert await store.jobs.find("job_unknown") is None


async def test_a_retry_waits_for_a_payload_recorded_late(store: Store) -> None:
    failed = attempt(next_step=NextStep.TIER, outcome=OutcomeKind.TIMEOUT, tier="30s")
    await store.recorder.record(fold([RecordedValue(failed, NOON)]))
    await store.jobs.add(job(state=State.WAITING, in_tier=True), ENTRY)
    store.clock.advance(1)
    young = await store.jobs.advance("job_1")
    assert (young.done, young.failed, young.finished_at) == (0, 0, None)
    await store.recorder.record(fold([RecordedValue(delivery(), NOON)]))
    done = await finish(store)
    assert (done.done, done.failed) == (1, 0)


async def test_a_job_may_discard_and_keeps_to_its_filter(store: Store) -> None:
    await dead(store, 1, 2)
    wanted = {"event_id": "evt_2", "since": NOON - timedelta(days=1), "reason": "exhausted"}
    await store.jobs.add(job(JobKind.DISCARD, **wanted), ENTRY)
    assert (await finish(store)).done == 1
    states = {state.event_id: state.state for state in (await store.producer.list(DeliveryFilter())).rows}
    assert states == {"evt_1": State.DEAD, "evt_2": State.DISCARDED}


async def test_a_portion_and_its_count_are_one_transaction(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "PORTION", 2)
    await dead(database, 1, 2, 3, 4, 5)
    await publish_all(database)
    await database.jobs.add(job(), ENTRY)
    counts = []
    while (seen := await database.jobs.advance("job_1")).finished_at is None:
        held = (await database.producer.list(DeliveryFilter(state=State.HELD, limit=10))).rows
        counts.append((seen.done, len(held)))
    assert counts == [(2, 2), (4, 4), (5, 5)]
    assert replace(seen, finished_at=None).done == 5


async def test_a_portion_begins_where_the_last_one_ended(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "PORTION", 2)
    ages = [timedelta(minutes=minutes) for minutes in (5, 4, 4, 4, 0)]
    dead = [
        delivery(event_id=f"evt_{number}", step=7, attempt=7, first_seen_at=NOON - age)
        for number, age in enumerate(ages)
    ]
    await database.recorder.record(fold([RecordedValue(dead_letter(delivery=one), NOON) for one in dead]))
    await publish_all(database)
    await database.jobs.add(job(), ENTRY)
    reached = []
    while (seen := await database.jobs.advance("job_1")).finished_at is None:
        assert seen.reached is not None
        reached.append((NOON - seen.reached) // timedelta(minutes=1))
        late = delivery(event_id="evt_late", step=7, attempt=7, first_seen_at=NOON - timedelta(minutes=9))
        await database.recorder.record(fold([RecordedValue(dead_letter(delivery=late), NOON)]))
    assert reached == [4, 4, 0, 9]
    assert (seen.done, seen.failed) == (6, 0)
