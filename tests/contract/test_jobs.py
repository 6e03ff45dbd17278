"""Jobs change many deliveries, one portion at a time."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import SqlStore, Store, publish_all, with_portions
from fakes import FakeEncryption
from streams.adapters.sql.deliveries.backfill import MissingDeliveries
from streams.adapters.sql.pruning import SqlPruning
from streams.core.accounts.access import ApiKey
from streams.core.accounts.account import Account, DeliveryFilter
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.backfill import Backfill, OffsetRange, Period
from streams.core.deliveries.delivery import HoldReason, State, Trigger
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Conflict
from streams.core.limits import MAX_RETRIES_PER_DELIVERY, MAX_UNFINISHED_JOBS_PER_ACCOUNT
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_log import SqlAuditLog
from streams.ports.storage import Prunable

ENTRY = AuditEntry("audit_1", "ada", "dead_letters.retried", "job_1", NOON, "acme")


def job(kind: JobKind = JobKind.RETRY, **wanted: Any) -> Job:
    wanted = {"account_id": "acme", "state": State.DEAD, "changed_until": NOON, **wanted}
    return Job("job_1", "acme", kind, DeliveryFilter(**wanted), NOON)


async def dead(store: Store, *numbers: int, webhook_id: str = "wh_crm", seconds: int = 0) -> None:
    """Record dead letters of this many seconds after noon."""
    dead = [delivery(event_id=f"evt_{number}", webhook_id=webhook_id, step=7, attempt=7) for number in numbers]
    at = NOON + timedelta(seconds=seconds)
    await store.recorder.record(merge_records([RecordedValue(dead_letter(delivery=one), at) for one in dead]))


async def finish(store: Store, job_id: str = "job_1") -> Job:
    while (job := await store.jobs.do_next_portion(job_id)).finished_at is None:
        store.clock.advance(1)
    return job


async def test_a_job_counts_what_was_sent_too_often_as_failed(store: Store) -> None:
    await dead(store, 1)
    often = delivery(event_id="evt_2", webhook_id="wh_crm", step=7, attempt=7, generation=MAX_RETRIES_PER_DELIVERY + 1)
    await store.recorder.record(merge_records([RecordedValue(dead_letter(delivery=often), NOON)]))
    await store.jobs.add(job(), ENTRY)
    finished = await finish(store)
    assert (finished.total, finished.done, finished.failed) == (2, 1, 1)


async def test_the_same_job_is_added_once_by_requests_at_once(database: SqlStore) -> None:
    await dead(database, 1, 2)
    entries = [replace(ENTRY, id=f"audit_{number}") for number in range(6)]
    added = await asyncio.gather(*(database.jobs.add(job(), entry) for entry in entries))
    assert {(one.id, one.total) for one in added} == {("job_1", 2)}
    page = await SqlAuditLog(database.database).list(AuditFilter("acme"), None, 10)
    assert len(page.rows) == 1


async def test_an_account_has_20_unfinished_jobs_at_most(store: Store) -> None:
    for number in range(MAX_UNFINISHED_JOBS_PER_ACCOUNT):
        await store.jobs.add(replace(job(), id=f"job_{number}"), replace(ENTRY, id=f"audit_{number}"))
    with pytest.raises(Conflict):
        await store.jobs.add(replace(job(), id="job_more"), replace(ENTRY, id="audit_more"))
    assert (await store.jobs.add(replace(job(), id="job_1"), ENTRY)).id == "job_1"
    await store.jobs.cancel("job_1", replace(ENTRY, id="audit_cancel"))
    assert (await store.jobs.add(replace(job(), id="job_more"), replace(ENTRY, id="audit_more"))).id == "job_more"


async def test_jobs_at_once_do_not_exceed_the_limit(database: SqlStore) -> None:
    new = [(replace(job(), id=f"job_{n}"), replace(ENTRY, id=f"audit_{n}")) for n in range(30)]
    done = await asyncio.gather(*(database.jobs.add(*one) for one in new), return_exceptions=True)
    assert sum(isinstance(result, Conflict) for result in done) == 30 - MAX_UNFINISHED_JOBS_PER_ACCOUNT


async def test_unfinished_jobs_are_read_account_by_account(store: Store) -> None:
    if isinstance(store, SqlStore):
        account, key = Account("globex", "Globex", (), NOON), ApiKey("key_2", "globex", "first", "sk_", "hash_2", NOON)
        await SqlAccounts(store.database).add(account, key)
    for number in range(MAX_UNFINISHED_JOBS_PER_ACCOUNT):
        await store.jobs.add(replace(job(), id=f"job_{number:02}"), replace(ENTRY, id=f"audit_{number}"))
    other = replace(job(account_id="globex"), id="job_99", account_id="globex")
    await store.jobs.add(other, replace(ENTRY, id="audit_99", account_id="globex"))
    first = await store.jobs.list_unfinished("")
    assert [one.id for one in first] == [f"job_{number:02}" for number in range(MAX_UNFINISHED_JOBS_PER_ACCOUNT)]
    assert await store.jobs.list_unfinished("acme") == [other]
    assert await store.jobs.list_unfinished("globex") == []


async def test_a_job_counts_the_deliveries_it_could_not_change(store: Store) -> None:
    await dead(store, 1, 2, 3)
    await dead(store, 4, webhook_id="wh_unknown")
    added = await store.jobs.add(job(), ENTRY)
    await dead(store, 5, seconds=1)
    assert (added.total, added.done) == (4, 0)
    assert [one.id for one in await store.jobs.list_unfinished("")] == ["job_1"]
    assert await store.jobs.list_unfinished("acme") == []
    done = await finish(store)
    assert (done.total, done.done, done.failed) == (4, 3, 1)
    assert await store.jobs.find("job_1") == done
    assert await store.jobs.list_unfinished("") == []
    assert await store.jobs.do_next_portion("job_1") == done
    left = (await store.delivery_log.list(DeliveryFilter(state=State.DEAD))).rows
    assert {state.event_id for state in left} == {"evt_4", "evt_5"}
    assert await store.jobs.find("job_unknown") is None


async def test_a_retry_waits_for_a_payload_recorded_late(store: Store) -> None:
    failed = attempt(next_step=NextStep.TIER, outcome=OutcomeKind.TIMEOUT, tier="30s")
    await store.recorder.record(merge_records([RecordedValue(failed, NOON)]))
    await store.jobs.add(job(state=State.WAITING, in_tier=True), ENTRY)
    store.clock.advance(1)
    young = await store.jobs.do_next_portion("job_1")
    assert (young.done, young.failed, young.finished_at) == (0, 0, None)
    await store.recorder.record(merge_records([RecordedValue(delivery(), NOON)]))
    done = await finish(store)
    assert (done.done, done.failed) == (1, 0)


async def test_a_retry_sends_each_once_whatever_clocks_say(store: Store) -> None:
    await publish_all(store)
    fails = {"next_step": NextStep.TIER, "outcome": OutcomeKind.TIMEOUT, "tier": "30s"}
    await store.recorder.record(merge_records([RecordedValue(delivery(), NOON), RecordedValue(attempt(**fails), NOON)]))
    await store.jobs.add(job(state=State.WAITING, in_tier=True), ENTRY)
    # Our clock went back since then.
    store.clock.advance(-5)
    assert (await store.jobs.do_next_portion("job_1")).done == 1
    # It fails again; the broker's clock is behind.
    again = attempt(**fails, generation=2, started_at=NOON + timedelta(seconds=1))
    await store.recorder.record(merge_records([RecordedValue(again, NOON - timedelta(seconds=30))]))
    assert (await finish(store)).done == 1
    assert await generations(store, [delivery().id]) == [2]


async def test_a_job_may_discard_and_keeps_to_its_filter(store: Store) -> None:
    await dead(store, 1, 2)
    wanted = {"event_id": "evt_2", "since": NOON - timedelta(days=1), "reason": "exhausted"}
    await store.jobs.add(job(JobKind.DISCARD, **wanted), ENTRY)
    assert (await finish(store)).done == 1
    states = {state.event_id: state.state for state in (await store.delivery_log.list(DeliveryFilter())).rows}
    assert states == {"evt_1": State.DEAD, "evt_2": State.DISCARDED}


async def test_a_portion_and_its_count_are_one_transaction(database: SqlStore) -> None:
    jobs = with_portions(database, 2).jobs
    await dead(database, 1, 2, 3, 4, 5)
    await publish_all(database)
    await jobs.add(job(), ENTRY)
    counts = []
    while (seen := await jobs.do_next_portion("job_1")).finished_at is None:
        held = (await database.delivery_log.list(DeliveryFilter(state=State.HELD, limit=10))).rows
        counts.append((seen.done, len(held)))
    assert counts == [(2, 2), (4, 4), (5, 5)]
    assert replace(seen, finished_at=None).done == 5


async def test_a_portion_begins_where_the_last_one_ended(database: SqlStore) -> None:
    jobs = with_portions(database, 2).jobs
    ages = [timedelta(minutes=minutes) for minutes in (5, 4, 4, 4, 0)]
    dead = [
        delivery(event_id=f"evt_{number}", step=7, attempt=7, first_seen_at=NOON - age)
        for number, age in enumerate(ages)
    ]
    await database.recorder.record(merge_records([RecordedValue(dead_letter(delivery=one), NOON) for one in dead]))
    await publish_all(database)
    await jobs.add(job(), ENTRY)
    reached = []
    while (seen := await jobs.do_next_portion("job_1")).finished_at is None:
        assert seen.reached is not None
        reached.append((NOON - seen.reached) // timedelta(minutes=1))
        late = delivery(event_id="evt_late", step=7, attempt=7, first_seen_at=NOON - timedelta(minutes=9))
        await database.recorder.record(merge_records([RecordedValue(dead_letter(delivery=late), NOON)]))
    assert reached == [4, 4, 0, 9]
    assert (seen.done, seen.failed) == (6, 0)


# -- retries of any deliveries ------------------------------------------------------------------------------------


RETRIED: dict[str, Any] = {
    "state": None,
    "states": (State.DELIVERED, State.DEAD, State.DISCARDED),
    "without_tests": True,
}
PAYLOAD = b'{"data": {"sessionId": "s1", "packageId": "p1", "metadata": {"department": "sales"}}}'


@pytest.mark.parametrize(
    "wanted",
    [
        {"package_id": "p1"},
        {"metadata": ("department", "sales")},
        {"outcome": OutcomeKind.TIMEOUT},
        {"status_class": 5},
        {"event_type": "session.completed"},
    ],
)
async def test_a_retry_reads_what_another_table_leads_to(database: SqlStore, wanted: dict[str, Any]) -> None:
    """Oldest first, in portions that begin where the last one ended."""
    jobs = with_portions(database, 2).jobs
    made = [
        delivery(event_id=f"evt_{number}", first_seen_at=NOON - timedelta(minutes=9 - number), body=PAYLOAD)
        for number in range(5)
    ]
    outcome, status = (OutcomeKind.SERVER_ERROR, 503) if "status_class" in wanted else (OutcomeKind.TIMEOUT, None)
    for one in made:
        known = {"event_id": one.event_id, "first_seen_at": one.first_seen_at}
        failed = attempt(**known, outcome=outcome, status=status, next_step=NextStep.TIER, tier="30s")
        retried = attempt(**known, number=2, step=3)
        await database.recorder.record(merge_records([RecordedValue(value, NOON) for value in (one, failed, retried)]))
    other = {"event_id": "evt_other", "event_type": "session.launched", "first_seen_at": NOON - timedelta(minutes=7)}
    await database.recorder.record(
        merge_records(
            [RecordedValue(delivery(**other, body=b'{"data": {}}'), NOON), RecordedValue(attempt(**other), NOON)]
        )
    )
    await publish_all(database)
    added = await jobs.add(job(**RETRIED, **wanted), ENTRY)
    assert added.total == 5
    reached = []
    while (seen := await jobs.do_next_portion("job_1")).finished_at is None:
        assert seen.reached is not None
        reached.append((NOON - seen.reached) // timedelta(minutes=1))
    assert reached == [8, 6, 5]
    assert (seen.done, seen.failed) == (5, 0)
    assert await generations(database, [one.id for one in made]) == [2] * 5
    assert await generations(database, [delivery(**other).id]) == [1]


async def test_a_retry_finds_an_event_published_again(database: SqlStore) -> None:
    """Its delivery and its attempts have different times: no portion passes the deliveries between them."""
    jobs = with_portions(database, 1).jobs
    failure = {"outcome": OutcomeKind.TIMEOUT, "status": None, "next_step": NextStep.TIER, "tier": "30s"}
    for number, (seen, seen_again) in enumerate(((9, 1), (8, 8), (7, 7))):
        known, again = {"event_id": f"evt_{number}"}, NOON - timedelta(minutes=seen_again)
        values = [
            RecordedValue(delivery(**known, first_seen_at=NOON - timedelta(minutes=seen)), NOON),
            RecordedValue(attempt(**known, first_seen_at=again, **failure), NOON),
            RecordedValue(attempt(**known, number=2, step=3, first_seen_at=again), NOON),
        ]
        await database.recorder.record(merge_records(values))
    await publish_all(database)
    await jobs.add(job(**RETRIED, outcome=OutcomeKind.TIMEOUT), ENTRY)
    portions = 0
    while (seen_job := await jobs.do_next_portion("job_1")).finished_at is None:
        portions += 1
    assert (portions, seen_job.done) == (3, 3)


# -- replays by time -------------------------------------------------------------------------------------------------


def replay_job(job_id: str = "job_1", *, backfill: bool = False, **wanted: Any) -> Job:
    """A replay of what was first seen before noon."""
    period = {"account_id": "acme", "webhook_id": "wh_crm", "since": NOON - timedelta(days=1), "until": NOON}
    choice = {"changed_until": NOON, "states": (State.DELIVERED, State.DEAD), "without_tests": True}
    wanted = {**period, **choice, **wanted}
    progress = Backfill() if backfill else None
    return Job(job_id, "acme", JobKind.REPLAY, DeliveryFilter(**wanted), NOON, backfill=progress)


async def delivered(store: Store, *minutes: int, generation: int = 1, at: datetime | None = None) -> list[str]:
    """Record events that were delivered this many minutes before noon. Returns the ids of their deliveries."""
    values = []
    for number in minutes:
        seen = NOON - timedelta(minutes=number)
        known = {"event_id": f"evt_{number}", "first_seen_at": seen, "generation": generation}
        values.append(RecordedValue(delivery(**known), at or seen))
        values.append(RecordedValue(attempt(**known, step=9), at or seen))
    await store.recorder.record(merge_records(values))
    return [delivery(event_id=f"evt_{number}").id for number in minutes]


async def generations(store: Store, ids: list[str]) -> list[int]:
    found = [await store.delivery_log.find(delivery_id) for delivery_id in ids]
    return [one.delivery_state.generation for one in found if one is not None]


async def test_a_replay_sends_delivered_and_dead_ones_again(store: Store) -> None:
    await publish_all(store)
    ids = await delivered(store, 1, 2)
    dead_one = delivery(event_id="evt_dead", step=7, attempt=7, first_seen_at=NOON - timedelta(minutes=3))
    test = attempt(event_id="evt_test", trigger=Trigger.TEST, first_seen_at=NOON - timedelta(minutes=1))
    await store.recorder.record(
        merge_records([RecordedValue(dead_letter(delivery=dead_one), NOON), RecordedValue(test, NOON)])
    )
    added = await store.jobs.add(replay_job(), ENTRY)
    assert added.total == 3
    done = await finish(store)
    assert (done.done, done.failed, done.status) == (3, 0, JobStatus.FINISHED)
    assert await generations(store, [*ids, dead_one.id]) == [2, 2, 2]


async def test_a_replay_never_sends_twice(store: Store) -> None:
    store = with_portions(store, 2)
    await publish_all(store)
    ids = await delivered(store, 1, 2, 3, 4, 5)
    await store.jobs.add(replay_job(), ENTRY)
    for _ in range(20):
        job = await store.jobs.do_next_portion("job_1")
        # They are delivered again at once, by a broker whose clock is behind: `changed_until` does not stop them.
        again = [
            number for number, count in zip((1, 2, 3, 4, 5), await generations(store, ids), strict=True) if count > 1
        ]
        await delivered(store, *again, generation=2, at=NOON - timedelta(seconds=30))
        if job.finished_at is not None:
            break
        store.clock.advance(1)
    assert (job.done, job.failed, job.status) == (5, 0, JobStatus.FINISHED)
    assert await generations(store, ids) == [2, 2, 2, 2, 2]


async def test_a_replay_waits_for_a_payload_recorded_late(store: Store) -> None:
    seen = {number: NOON - timedelta(minutes=number) for number in (3, 2, 1)}
    made = [attempt(event_id=f"evt_{number}", first_seen_at=at, step=9) for number, at in seen.items()]
    await store.recorder.record(merge_records([RecordedValue(one, one.first_seen_at) for one in made]))
    await delivered(store, 3, 1)
    added = await store.jobs.add(replay_job(), ENTRY)
    assert (await store.jobs.do_next_portion("job_1")).done == 2
    assert (await store.jobs.do_next_portion("job_1")).finished_at is None
    await delivered(store, 2)
    done = await finish(store)
    assert (added.total, done.done, done.failed) == (3, 3, 0)
    assert await generations(store, [one.delivery_id for one in made]) == [2, 2, 2]


async def test_a_replay_leaves_what_it_cannot_send(store: Store) -> None:
    [known] = await delivered(store, 1)
    bare = attempt(event_id="evt_bare", first_seen_at=NOON - timedelta(minutes=2))
    await store.recorder.record(merge_records([RecordedValue(bare, NOON - timedelta(minutes=2))]))
    await store.jobs.add(replay_job(), ENTRY)
    done = await finish(store)
    assert (done.done, done.failed) == (1, 1)
    assert await generations(store, [known]) == [2]


async def test_a_second_replay_of_a_webhook_waits(store: Store) -> None:
    first = await store.jobs.add(replay_job(), ENTRY)
    assert await store.jobs.add(replay_job(), ENTRY) == first
    with pytest.raises(Conflict, match="job_1"):
        await store.jobs.add(replay_job("job_2"), replace(ENTRY, id="audit_2"))
    other = replay_job("job_3", webhook_id="wh_other")
    assert (await store.jobs.add(other, replace(ENTRY, id="audit_3"))).total == 0
    await finish(store)
    assert (await store.jobs.add(replay_job("job_2"), replace(ENTRY, id="audit_4"))).id == "job_2"


async def test_a_cancelled_job_keeps_what_is_done(store: Store) -> None:
    store = with_portions(store, 1)
    ids = await delivered(store, 1, 2)
    await store.jobs.add(replay_job(), ENTRY)
    await store.jobs.do_next_portion("job_1")
    cancelled = await store.jobs.cancel("job_1", replace(ENTRY, id="audit_2"))
    assert cancelled is not None
    assert (cancelled.status, cancelled.done) == (JobStatus.CANCELLED, 1)
    assert await store.jobs.cancel("job_1", replace(ENTRY, id="audit_3")) == cancelled
    assert await store.jobs.do_next_portion("job_1") == cancelled
    assert await store.jobs.list_unfinished("") == []
    assert sorted(await generations(store, ids)) == [1, 2]
    assert await store.jobs.cancel("job_unknown", ENTRY) is None


# -- backfill --------------------------------------------------------------------------------------------------------

RANGES = (OffsetRange(0, 5, 9), OffsetRange(1, 0, 2))


def held(number: int) -> RecordedValue:
    owed = delivery(event_id=f"evt_{number}", trigger=Trigger.MANUAL, hold_reason=HoldReason.REPLAY)
    return RecordedValue(owed, NOON)


async def begun(store: Store) -> Job:
    """A backfill that knows the offsets of its period."""
    await publish_all(store)
    await store.jobs.add(replay_job(backfill=True), ENTRY)
    job = await store.jobs.do_next_portion("job_1")
    assert job.is_backfilling
    assert job.backfill is not None
    return await store.jobs.store_backfill(job, job.backfill.begin(Period(RANGES, NOON)), Batch())


async def test_a_backfill_adds_only_what_is_missing(store: Store) -> None:
    [known] = await delivered(store, 1, at=NOON + timedelta(seconds=1))
    job = await begun(store)
    assert job.backfill is not None
    assert (job.backfill.records, job.backfill.read, job.progress) == (6, 0, (0, 6))
    job = await store.jobs.store_backfill(job, job.backfill.after_reading({0: 9}), merge_records([held(1), held(2)]))
    assert job.backfill is not None
    assert (job.backfill.added, job.backfill.skipped, job.backfill.read, job.finished_at) == (1, 1, 4, None)
    assert await store.jobs.find("job_1") == job
    assert await generations(store, [known]) == [1]
    [one] = await store.held.oldest("wh_crm", 10)
    assert (one.delivery.event_id, one.delivery.body) == ("evt_2", delivery().body)
    job = await store.jobs.store_backfill(job, job.backfill.after_reading({1: 2}), Batch())
    assert (job.finished_at, job.is_backfilling) == (None, False)
    assert (await finish(store)).done == 0


async def test_a_portion_of_a_backfill_is_stored_once(store: Store) -> None:
    job = await begun(store)
    assert job.backfill is not None
    after = job.backfill.after_reading({0: 9})
    stored = await store.jobs.store_backfill(job, after, merge_records([held(1)]))
    # Another publisher, which was frozen, comes with the same portion.
    assert await store.jobs.store_backfill(job, after, merge_records([held(1)])) == stored
    cancelled = await store.jobs.cancel("job_1", replace(ENTRY, id="audit_2"))
    assert stored.backfill is not None
    assert (
        await store.jobs.store_backfill(stored, stored.backfill.after_reading({1: 2}), merge_records([held(2)]))
        == cancelled
    )
    assert len(await store.held.oldest("wh_crm", 10)) == 1


async def test_a_late_record_of_fan_out_ends_a_backfilled_one(store: Store) -> None:
    job = await begun(store)
    assert job.backfill is not None
    await store.jobs.store_backfill(job, job.backfill.after_reading({0: 9}), merge_records([held(1)]))
    late = RecordedValue(delivery(event_id="evt_1"), NOON), RecordedValue(attempt(event_id="evt_1"), NOON)
    await store.recorder.record(merge_records(late))
    assert await store.held.oldest("wh_crm", 10) == []


@pytest.mark.parametrize("connections", [3])
async def test_retention_leaves_the_payload_to_a_backfill(database: SqlStore) -> None:
    if database.database.is_sqlite:
        pytest.skip("SQLite has one writer at a time")
    [old] = await delivered(database, 1, at=NOON - timedelta(days=30))
    missing = MissingDeliveries(FakeEncryption())
    owed = delivery(event_id="evt_1", webhook_id="wh_new", trigger=Trigger.MANUAL, hold_reason=HoldReason.REPLAY)
    async with database.database.transaction() as connection:
        assert await missing.add(connection, merge_records([RecordedValue(owed, NOON)])) == 1
        pruning = asyncio.create_task(SqlPruning(database.database).prune(Prunable.DELIVERIES, NOON, 10))
        while not (pruning.done() or await database.waiting()):
            await asyncio.sleep(0.01)
    assert (await pruning).rows == 1
    assert await database.delivery_log.find(old) is None
    kept = await database.delivery_log.find(owed.id)
    assert kept is not None
    assert kept.body == owed.body
