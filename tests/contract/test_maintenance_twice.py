"""Two processes of `maintain` may do the same work: each piece is done once."""

import asyncio
from datetime import timedelta

from builders import NOON, attempt, dead_letter, delivery
from contract.learners import ADA, learners, record_each_state, traces
from contract.stores import SqlStore, with_portions
from streams.adapters.sql.deliveries.overdue_retries import SqlOverdueRetries
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.deliveries import attempts, deliveries, events
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import State
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.deliveries.outcome import OutcomeKind
from streams.features.shared.audit_log import SqlAuditLog
from streams.ports.storage import Prunable

MANY = 60
PORTION = 7
ENTRY = AuditEntry("audit_1", "ada", "dead_letters.retried", "job_1", NOON, "acme")


async def test_two_processes_of_one_job_send_each_delivery_once(database: SqlStore) -> None:
    jobs = with_portions(database, PORTION).jobs
    dead = [delivery(event_id=f"evt_{number}", step=7, attempt=7) for number in range(MANY)]
    await database.recorder.record(merge_records([RecordedValue(dead_letter(delivery=one), NOON) for one in dead]))
    wanted = DeliveryFilter("acme", state=State.DEAD, changed_until=NOON)
    await jobs.add(Job("job_1", "acme", JobKind.RETRY, wanted, NOON), ENTRY)

    async def finish() -> Job:
        while (job := await jobs.do_next_portion("job_1")).finished_at is None:
            database.clock.advance(1)
        return job

    for done in await asyncio.gather(finish(), finish()):
        assert (done.done, done.failed, done.status) == (MANY, 0, JobStatus.FINISHED)
    rows = (await database.delivery_log.list(DeliveryFilter("acme", limit=MANY))).rows
    assert [(row.state, row.generation) for row in rows] == [(State.HELD, 2)] * MANY


async def test_two_processes_send_an_overdue_retry_again_once(database: SqlStore) -> None:
    for number in range(MANY):
        made = attempt(event_id=f"evt_{number}", next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)
        first = RecordedValue(delivery(event_id=f"evt_{number}"), NOON)
        await database.recorder.record(merge_records([first, RecordedValue(made, NOON)]))
    overdue = SqlOverdueRetries(database.database, database.clock)

    async def send() -> int:
        counts = [await overdue.resend(NOON + timedelta(hours=1), PORTION) for _ in range(MANY)]
        return sum(counts)

    assert sum(await asyncio.gather(send(), send())) == MANY
    rows = (await database.delivery_log.list(DeliveryFilter("acme", limit=MANY))).rows
    assert {row.generation for row in rows} == {2}


async def test_two_processes_finish_an_erasure_once(database: SqlStore) -> None:
    await record_each_state(database)
    service = learners(database)
    erasure = await service.start("acme", ADA, actor="key:key_1")

    async def finish() -> None:
        while not (await database.erasures.do_next_portion(erasure.id)).is_finished:
            pass

    await asyncio.gather(finish(), finish())
    page = await SqlAuditLog(database.database).list(AuditFilter("acme"), None, 100)
    assert [row.action for row in page.rows].count("learner.erasure_finished") == 1
    assert await traces(database) == []


async def test_two_processes_delete_each_old_row_once(database: SqlStore) -> None:
    made = [attempt(event_id=f"evt_{number}", next_step=NextStep.DONE) for number in range(MANY)]
    for one in made:
        await database.recorder.record(
            merge_records([RecordedValue(delivery(event_id=one.event_id), NOON), RecordedValue(one, NOON)])
        )

    async def prune() -> int:
        pruning, gone = SqlPruning(database.database), 0
        while count := (await pruning.prune(Prunable.DELIVERIES, NOON + timedelta(days=1), PORTION)).rows:
            gone += count
        return gone

    assert sum(await asyncio.gather(prune(), prune())) == MANY
    assert [await database.count(table) for table in (deliveries, attempts, events)] == [0, 0, 0]
