"""One row that fails ends no loop: it is put aside, and its neighbours are done at once.

`LOOPS` has every loop of the stages. The clock stands still, so that nothing here is a second try of what failed.
"""

import ast
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from builders import NOON, dead_letter, delivery, event, webhook
from contract.learners import ADA, learners
from contract.stores import SqlStore
from contract.test_session_ends import LATER, ended, open_session, sessions_of, token_of
from fakes import (
    FakeClock,
    FakeEncryption,
    FakeEncryptionCheck,
    FakeFailedWork,
    FakeKafka,
    FakeLease,
    FakeRecordConsumer,
    FakeRecorder,
    FakeSubscriptions,
    FakeTelemetry,
    cancel_others,
    postponed_work,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.failed_work import SqlFailedWork
from streams.adapters.sql.outgoing_events import OutgoingEventWriter
from streams.adapters.sql.tables.accounts import jobs, mails
from streams.adapters.sql.tables.course_sessions import course_sessions
from streams.adapters.sql.tables.deliveries import deliveries, webhooks
from streams.adapters.sql.tables.erasures import erasures
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry
from streams.core.accounts.mail import Mail, MailKind
from streams.core.accounts.usage import LaunchBatch, NewLaunches, UnknownAccount
from streams.core.deliveries.backfill import OffsetRange
from streams.core.deliveries.backlog import Backlog, GroupOffsets
from streams.core.deliveries.delivery import HoldReason, State
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.deliveries.held import HeldDelivery
from streams.core.deliveries.job import Job, JobKind
from streams.core.errors import InvalidRecord, RowRefused, Unavailable
from streams.core.failed_work import MAX_RETRY_SECONDS, FailedRow, FailedWork, WorkKind, retry_seconds
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status
from streams.features.course_sessions.changes import EventContext, apply_commit
from streams.features.course_sessions.commit import PlayerCommit, Score
from streams.features.course_sessions.stage import DueReports, ReportTimes
from streams.features.learners.stage import finish_erasures
from streams.features.mails.stage import Notify, NotifyTimes
from streams.features.mails.storage import SqlMails
from streams.features.replays.stage import run_jobs
from streams.features.usage.account_check import AccountCheck
from streams.features.usage.stage import Meter
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition
from streams.ports.storage import Prunable, PruneResult
from streams.stages.backlog_metrics import expose_backlog
from streams.stages.end_pulls import EndPulls
from streams.stages.lease import LeaseKeeper
from streams.stages.overdue_retries import resend_overdue
from streams.stages.postponed_work import MAX_POSTPONED_PER_KIND, PostponedWork
from streams.stages.probe_paused import ProbePaused
from streams.stages.publish import Publish
from streams.stages.record import RecordStage
from streams.stages.release_held import ReleaseHeld
from streams.stages.retention import prune_regularly
from streams.topics import DELIVER_GROUP, DELIVERIES, RECORD_GROUP, SESSION_EVENTS, STAGE_TOPICS, SUBSCRIPTIONS

ROOT = Path(__file__).parents[2]
CODEC = AvroCodec()
ENTRY = AuditEntry("audit_1", "ada", "dead_letters.retried", "job_1", NOON, "acme")

# Where each loop has its test, or why it needs none. A new loop is missing here.
LOOPS = {
    "features/course_sessions/stage.py: report_ends": "test_a_wrong_session_delays_no_end",
    "features/course_sessions/stage.py: report_scores": "test_a_wrong_session_delays_no_score",
    "features/learners/stage.py: finish_erasures": "test_a_wrong_erasure_delays_no_other",
    "features/mails/stage.py: _with_lease": "waits for one mail",
    "features/mails/stage.py: run": "test_a_wrong_mail_delays_no_other",
    "features/replays/stage.py: run_jobs": "test_a_wrong_job_delays_no_other",
    "features/replays/stage.py: run_round": "test_a_wrong_job_delays_no_other",
    "stages/backlog_metrics.py: _run_regularly": "test_a_wrong_count_ends_no_other_metric",
    "stages/consuming/batch_consumer.py: _run_batches": "test_a_record_that_fails_in_sql_delays_no_other",
    "stages/consuming/deduplicator.py: begin": "waits for one record",
    "stages/consuming/event_reader.py: _commit_regularly": "commits offsets",
    "stages/consuming/event_reader.py: _until_read": "waits for events",
    "stages/consuming/partition_consumer.py: _commit_regularly": "commits offsets",
    "stages/deliver.py: deliver": "one delivery, in tests/stages",
    "stages/end_pulls.py: run": "test_a_wrong_pull_delays_no_other",
    "stages/fan_out.py: run": "one event, in tests/stages",
    "stages/lease.py: _keep_renewing": "the lease",
    "stages/lease.py: _take": "the lease",
    "stages/lease.py: _watch_keys": "the lease",
    "stages/limiting/loop_clock.py: run": "a clock",
    "stages/limiting/slot_limiter.py: run": "in memory",
    "stages/outgoing_events.py: send_outgoing_events": "tests/stages/test_outgoing_events.py",
    "stages/overdue_retries.py: resend_overdue": "test_a_wrong_retry_does_not_end_the_search",
    "stages/probe_paused.py: run": "test_a_wrong_probe_delays_no_other",
    "stages/publish.py: reconcile": "test_a_wrong_webhook_delays_no_other",
    "stages/publish.py: run": "test_a_wrong_webhook_delays_no_other",
    "stages/publish_erasures.py: _begin": "of erasures, in tests/contract/test_publish_erasures.py",
    "stages/publish_erasures.py: _learn": "records of the topic, which its reader checks",
    "stages/publish_erasures.py: reconcile": "of erasures, in tests/contract/test_publish_erasures.py",
    "stages/publish_erasures.py: run": "of erasures, in tests/contract/test_publish_erasures.py",
    "stages/release_held.py: run": "test_a_wrong_held_delivery_delays_no_other",
    "stages/retention.py: _catch_up": "test_a_wrong_row_delays_retention_of_no_other_kind",
    "stages/retention.py: run": "test_a_wrong_row_delays_retention_of_no_other_kind",
}


def test_every_loop_of_the_stages_has_its_test() -> None:
    files = [*(ROOT / "streams" / "stages").rglob("*.py"), *(ROOT / "streams" / "features").glob("*/stage.py")]
    found = {
        f"{path.relative_to(ROOT / 'streams')}: {function.name}"
        for path in files
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.AsyncFunctionDef)
        and any(isinstance(node, ast.While) for node in ast.walk(function))
    }
    assert found == LOOPS.keys()
    tests = {name for name in LOOPS.values() if name.startswith("test_")}
    assert {name for name in tests if name not in globals()} == set()


@dataclass
class Work:
    """The work of a process, with what its operator reads."""

    telemetry: FakeTelemetry = field(default_factory=FakeTelemetry)
    clock: FakeClock = field(default_factory=FakeClock)
    log: FakeFailedWork = field(default_factory=FakeFailedWork)

    def __post_init__(self) -> None:
        self.postponed = postponed_work(self.telemetry, self.clock, self.log)
        self.outages = Outages(self.telemetry)

    @property
    def failed(self) -> set[tuple[WorkKind, str]]:
        return set(self.log.failures)


@pytest.fixture
def work() -> Work:
    return Work()


@asynccontextmanager
async def running(loop: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """A loop that goes on until the end of the block."""
    task = asyncio.create_task(loop)
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await cancel_others()


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """The clock stands still: what failed is not tried again meanwhile."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.005)


async def change(database: SqlStore, statement: Any) -> None:
    async with database.database.transaction() as connection:
        assert (await connection.execute(statement)).rowcount >= 1


# -- maintain ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "shuffle"},
        {"filter": {"account_id": "acme", "webhook_id": "wh_crm", "learner_group": "staff"}},
        {"backfill": {"is_due": True, "through": "archive"}},
        {"filter": {"account_id": "acme", "state": "asleep"}},
    ],
    ids=["kind", "field", "backfill", "state"],
)
async def test_a_wrong_job_delays_no_other(database: SqlStore, work: Work, wrong: Mapping[str, object]) -> None:
    of_acme = DeliveryFilter("acme", state=State.DEAD, changed_until=NOON)
    for number in (1, 2):
        new_job = Job(f"job_{number}", "acme", JobKind.DISCARD, of_acme, NOON)
        entry = AuditEntry(f"audit_{number}", "ada", "dead_letters.discarded", new_job.id, NOON, "acme")
        await database.jobs.add(new_job, entry)
    await change(database, update(jobs).where(jobs.c.id == "job_1").values(wrong))

    async def is_finished() -> bool:
        other = await database.jobs.find("job_2")
        return other is not None and other.finished_at is not None

    advancing = run_jobs(
        database.jobs,
        None,  # type: ignore[arg-type]
        work.telemetry,
        work.postponed,
        poll_interval_seconds=0,
        portion_pause_seconds=0,
    )
    async with running(advancing):
        await eventually(is_finished)
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.JOB, "job_1")}
    assert work.telemetry.counts["work_failed_total"] == 1


async def test_a_wrong_job_keeps_no_other_from_being_added(database: SqlStore) -> None:
    replay = DeliveryFilter("acme", "wh_crm", since=NOON, until=NOON)
    await database.jobs.add(Job("job_1", "acme", JobKind.REPLAY, replay, NOON), ENTRY)
    await change(database, update(jobs).values(filter={"webhook_id": "wh_other", "learner_group": "staff"}))
    entry = AuditEntry("audit_2", "ada", "webhook.replayed", "job_2", NOON, "acme")
    assert (await database.jobs.add(Job("job_2", "acme", JobKind.REPLAY, replay, NOON), entry)).id == "job_2"


@pytest.mark.parametrize("wrong", [{"step": "archives"}, {"place": [1, 2]}, {"counts": 5}], ids=str)
async def test_a_wrong_erasure_delays_no_other(database: SqlStore, work: Work, wrong: Mapping[str, object]) -> None:
    first = await learners(database).start("acme", ADA, actor="key:key_1")
    second = await learners(database).start("acme", "grace", actor="key:key_1")
    is_first = erasures.c.id == first.id
    await change(database, update(erasures).where(is_first).values({"step": "mails", **wrong}))

    async def is_finished() -> bool:
        other = await database.erasures.find(second.id)
        return other is not None and other.is_finished

    work.clock.advance(60)
    finishing = finish_erasures(
        database.erasures,
        work.clock,
        work.telemetry,
        work.postponed,
        poll_interval_seconds=0.001,
        portion_pause_seconds=0.001,
    )
    async with running(finishing):
        await eventually(is_finished)
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.ERASURE, first.id)}


class WrongPruning:
    """A `Pruning` that fails at the rows of one kind."""

    is_only_writer = False

    def __init__(self, wrong: Exception) -> None:
        self.wrong, self.pruned = wrong, set[Prunable]()

    async def prune(self, prunable: Prunable, cutoff: object, limit: int, since: object = None) -> PruneResult:
        await asyncio.sleep(0)
        if prunable is Prunable.AUDIT:
            raise self.wrong
        self.pruned.add(prunable)
        return PruneResult(0, None, 0.0)

    async def oldest_time(self, prunable: Prunable, cutoff: object) -> None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("wrong", [ValueError("not a month"), RowRefused("a constraint")], ids=["value", "refused"])
async def test_a_wrong_row_delays_retention_of_no_other_kind(work: Work, wrong: Exception) -> None:
    pruning, month = WrongPruning(wrong), timedelta(days=30)
    keep = dict.fromkeys((Prunable.AUDIT, Prunable.MAILS, Prunable.JOBS), month)
    pruned = prune_regularly(pruning, keep, work.clock, work.telemetry, work.postponed, interval_seconds=0)
    async with running(pruned):
        await until(lambda: pruning.pruned == {Prunable.MAILS, Prunable.JOBS})
    assert work.failed == {(WorkKind.RETENTION, "audit")}


async def test_a_wrong_retry_does_not_end_the_search(work: Work) -> None:
    asked = []

    class Overdue:
        async def resend(self, due_before: object, limit: int) -> int:
            asked.append(limit)
            raise ValueError("not a tier")

    class Lags:
        async def offsets(self) -> Mapping[str, Mapping[Partition, Any]]:
            await asyncio.sleep(0)
            return {
                group: {Partition(topic, 0): GroupOffsets(committed=1, end=1) for topic in STAGE_TOPICS[group]}
                for group in (DELIVER_GROUP, RECORD_GROUP)
            }

    search = resend_overdue(
        Overdue(), Lags(), timedelta(), work.clock, work.telemetry, work.postponed, check_interval_seconds=0
    )
    async with running(search):
        await until(lambda: len(asked) > 1)
    assert work.failed == {(WorkKind.OVERDUE_RETRIES, "resend")}


async def test_a_wrong_count_ends_no_other_metric(work: Work) -> None:
    class Wrong:
        async def read(self) -> Backlog:
            raise TypeError("not a time")

        async def offsets(self) -> Mapping[str, Mapping[Partition, Any]]:
            return {}

    wrong = Wrong()
    async with running(expose_backlog(wrong, wrong, work.clock, work.telemetry, work.postponed)):
        await until(lambda: "group_lag_records" in work.telemetry.replaced)
    assert work.failed == {(WorkKind.BACKLOG, "deliveries")}


# -- publish -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": "asleep"},
        {"secrets": [{"key": "of a newer release"}]},
        {"filter": '{"learnerGroup": {"exists": false}}'},
        {"filter": '{"successStatus": {"near": "passed"}}'},
    ],
    ids=["status", "secret", "filtered field", "operator"],
)
async def test_a_wrong_webhook_delays_no_other(database: SqlStore, work: Work, wrong: Mapping[str, object]) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_other"), NOON))
    await change(database, update(webhooks).where(webhooks.c.id == "wh_crm").values(wrong))
    kafka = FakeKafka(work.clock)
    keeper = LeaseKeeper(FakeLease(), FakeEncryptionCheck(), work.telemetry, work.outages)
    publish = Publish(
        database.outbox,
        keeper,
        kafka,
        CODEC,
        work.telemetry,
        FakeEncryptionCheck(),
        work.clock,
        lambda: "first",
        work.outages,
        work.postponed,
    )
    async with running(publish.run(FakeSubscriptions(kafka, CODEC).table)):

        async def is_published() -> bool:
            return await database.propagation.is_published("wh_other")

        await eventually(is_published)
        await until(lambda: bool(work.failed))
    assert {record.key for record in kafka.topic(SUBSCRIPTIONS)} >= {b"wh_other"}
    assert b"wh_crm" not in {record.key for record in kafka.topic(SUBSCRIPTIONS)}
    assert not await database.propagation.is_published("wh_crm")
    assert work.failed == {(WorkKind.WEBHOOK, "wh_crm")}


async def hold(database: SqlStore, *event_ids: str) -> dict[str, str]:
    """Record held deliveries of an active webhook; the ids by event."""
    values = [
        delivery(event_id=event_id).to_held(HoldReason.REPLAY, None, is_attempted=False) for event_id in event_ids
    ]
    await database.recorder.record(merge_records([RecordedValue(value, NOON) for value in values]))
    await database.outbox.mark_published([(due, NOON) for due in await database.outbox.list_due(10)])
    return {value.event_id: value.id for value in values}


async def state_of(database: SqlStore, delivery_id: str) -> object:
    return await database.database.scalar(select(deliveries.c.state).where(deliveries.c.id == delivery_id))


def release_held(database: SqlStore, work: Work, recorder: Any = None) -> ReleaseHeld:
    kafka = FakeKafka(work.clock)
    sentinel = Sentinel("first", 0, None)
    kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), sentinel.encode()))
    subscriptions = FakeSubscriptions(kafka, CODEC)
    recorder = recorder or database.recorder
    return ReleaseHeld(
        database.held, recorder, subscriptions, kafka, CODEC, work.clock, work.telemetry, work.postponed, 100
    )


@pytest.mark.parametrize("wrong", [{"reason": "asleep"}, {"trigger": "moon"}], ids=["reason", "trigger"])
async def test_a_wrong_held_delivery_delays_no_other(
    database: SqlStore, work: Work, wrong: Mapping[str, object]
) -> None:
    ids = await hold(database, "evt_1", "evt_2")
    await change(database, update(deliveries).where(deliveries.c.id == ids["evt_1"]).values(wrong))
    release = release_held(database, work)
    assert await release.cycle() == 1
    assert await release.cycle() == 0
    assert work.failed == {(WorkKind.HELD_DELIVERY, ids["evt_1"])}
    assert await state_of(database, ids["evt_2"]) == State.WAITING


async def test_a_wrong_pull_delays_no_other(database: SqlStore, work: Work) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_1", url=""), NOON))
    pulled = [
        delivery(webhook_id="wh_1", event_id=event_id).to_held(HoldReason.PULL, None, is_attempted=False)
        for event_id in ("evt_1", "evt_2")
    ]
    await database.recorder.record(merge_records([RecordedValue(value, NOON) for value in pulled]))
    await database.outbox.mark_published([(due, NOON) for due in await database.outbox.list_due(10)])
    await change(database, update(deliveries).where(deliveries.c.id == pulled[0].id).values(trigger="moon"))
    work.clock.advance(8 * 24 * 60 * 60)
    kafka = FakeKafka(work.clock)
    kafka.append(Outgoing(SUBSCRIPTIONS, b"wh_1", CODEC.encode(webhook(id="wh_1", url=""))))
    kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("first", 0, None).encode()))
    subscriptions = FakeSubscriptions(kafka, CODEC)
    await subscriptions.catch_up()
    release = ReleaseHeld(
        *(database.held, database.recorder, subscriptions, kafka, CODEC, work.clock, work.telemetry, work.postponed),
        per_second=100,
    )
    pulls = EndPulls(database.webhooks, database.held, subscriptions, work.clock, work.postponed, release.end_holds)
    assert await pulls.cycle() == 1
    assert work.failed == {(WorkKind.HELD_DELIVERY, pulled[0].id)}
    assert await state_of(database, pulled[1].id) == State.DEAD


async def test_a_wrong_temporary_webhook_delays_no_other(database: SqlStore, work: Work) -> None:
    for name in ("wh_1", "wh_2"):
        await database.webhooks.add(Registration(webhook(id=name, url=""), NOON, expires_at=NOON))
    await change(database, update(webhooks).where(webhooks.c.id == "wh_1").values(status="asleep"))
    subscriptions = FakeSubscriptions(FakeKafka(work.clock), CODEC)
    pulls = EndPulls(database.webhooks, database.held, subscriptions, work.clock, work.postponed, _end_nothing)
    assert await pulls.cycle() == 1
    assert work.failed == {(WorkKind.WEBHOOK, "wh_1")}
    assert await database.webhooks.find("wh_2") is None
    assert await pulls.cycle() == 0


async def _end_nothing(deliveries: Sequence[HeldDelivery], seconds: float) -> int:
    return len(deliveries)


async def test_a_wrong_probe_delays_no_other(database: SqlStore, work: Work) -> None:
    names, pauses = ("wh_1", "wh_2"), {}
    for name in names:
        pauses[name] = Pause(f"pause_{name}", PauseReason.FAILURES)
        probed = webhook(id=name, status=Status.PAUSED, pause=pauses[name], options=parse_options({"resume": "probe"}))
        await database.webhooks.add(Registration(probed, NOON, paused_at=NOON, probe_at=NOON))
    held = [
        delivery(webhook_id=name, event_id=event_id).to_held(HoldReason.PAUSED, pauses[name].id, is_attempted=False)
        for name, event_id in (("wh_1", "evt_1"), ("wh_1", "evt_2"), ("wh_2", "evt_1"))
    ]
    await database.recorder.record(merge_records([RecordedValue(value, NOON) for value in held]))
    await database.outbox.mark_published([(due, NOON) for due in await database.outbox.list_due(10)])
    await change(database, update(deliveries).where(deliveries.c.id == held[0].id).values(trigger="moon"))
    kafka = FakeKafka(work.clock)
    kafka.append(Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("first", 0, None).encode()))
    subscriptions = FakeSubscriptions(kafka, CODEC)
    probes = ProbePaused(
        database.held, database.recorder, subscriptions, kafka, CODEC, work.clock, work.telemetry, work.postponed
    )
    assert await probes.cycle() == 1
    assert work.failed == {(WorkKind.HELD_DELIVERY, held[0].id)}
    assert await state_of(database, held[2].id) == State.WAITING
    # The next one of that webhook is tried instead.
    assert await probes.cycle() == 1
    assert await state_of(database, held[1].id) == State.WAITING


async def test_a_released_delivery_that_is_refused_stops_no_other(database: SqlStore, work: Work) -> None:
    ids = await hold(database, "evt_1", "evt_2")

    class RefusingRecorder:
        async def record(self, batch: Batch) -> Any:
            if ids["evt_1"] in {state.delivery_id for state in batch.delivery_states}:
                raise RowRefused("a constraint")
            return await database.recorder.record(batch)

    release = release_held(database, work, RefusingRecorder())
    await release.cycle()
    assert work.failed == {(WorkKind.HELD_DELIVERY, ids["evt_1"])}
    assert await state_of(database, ids["evt_2"]) == State.WAITING


async def test_a_wrong_progress_ends_no_release(database: SqlStore, work: Work) -> None:
    ids = await hold(database, "evt_1", "evt_2")
    release = release_held(database, work)
    assert await release.cycle() == 2
    await change(database, update(deliveries).where(deliveries.c.id == ids["evt_1"]).values(state="asleep"))
    await release.cycle()
    assert work.failed == {(WorkKind.HELD_DELIVERY, ids["evt_1"])}


def due_reports(database: SqlStore, work: Work) -> DueReports:
    times = ReportTimes(poll_interval=0.001, end_poll_interval=0.001, turn_pause=0.001)
    return DueReports(sessions_of(database), work.clock, work.outages, work.postponed, times)


@pytest.mark.parametrize("wrong", [{"progress": "[]"}, {"stored_state": "on the moon"}, {"events": "{"}], ids=str)
async def test_a_wrong_session_delays_no_end(database: SqlStore, work: Work, wrong: Mapping[str, object]) -> None:
    for name in ("sess_1", "sess_2", "sess_3"):
        await open_session(sessions_of(database), name)
    await change(database, update(course_sessions).where(course_sessions.c.id == "sess_1").values(wrong))
    work.clock.advance((LATER - NOON).total_seconds())

    async def have_ended() -> bool:
        return set(await ended(database)) == {"sess_2", "sess_3"}

    async with running(due_reports(database, work).report_ends()):
        await eventually(have_ended)
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.SESSION, "acme/sess_1")}


async def test_a_wrong_session_delays_no_score(database: SqlStore, work: Work) -> None:
    sessions = sessions_of(database)
    for name in ("sess_1", "sess_2"):
        await open_session(sessions, name)
        for raw in (1.0, 2.0):
            context = EventContext(NOON, lambda raw=raw, name=name: f"evt_{name}_{raw}")  # type: ignore[misc]
            commit = PlayerCommit(score=Score(raw=raw))
            await sessions.commit(token_of(name), lambda known, _, c=commit, x=context: apply_commit(known, c, x))  # type: ignore[misc]
    await change(database, update(course_sessions).where(course_sessions.c.id == "sess_1").values(progress="[]"))
    work.clock.advance(60)

    async def is_reported() -> bool:
        query = select(course_sessions.c.score_due_at).where(course_sessions.c.id == "sess_2")
        return await database.database.scalar(query) is None

    async with running(due_reports(database, work).report_scores()):
        await eventually(is_reported)
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.SESSION, "acme/sess_1")}


async def test_a_wrong_session_fails_no_other_commit(database: SqlStore) -> None:
    sessions = sessions_of(database)
    for name in ("sess_1", "sess_2"):
        await open_session(sessions, name)
    await change(database, update(course_sessions).where(course_sessions.c.id == "sess_1").values(progress="[]"))
    context = EventContext(NOON, lambda: "evt_1")
    commits = (
        sessions.commit(token_of(name), lambda known, _: apply_commit(known, PlayerCommit(), context))
        for name in ("sess_1", "sess_2")
    )
    first, second = await asyncio.gather(*commits, return_exceptions=True)
    assert isinstance(first, ValueError)
    assert second is True


# -- notify --------------------------------------------------------------------------------------------------------


class Transport:
    """A `MailTransport` that keeps what was sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, message_id: str, emails: Sequence[str], mail: object) -> None:
        await asyncio.sleep(0)
        self.sent.append(message_id)


def notify(database: SqlStore, work: Work, transport: Transport) -> Notify:
    return Notify(
        SqlMails(database.database, OutgoingEventWriter(AvroCodec())),
        transport,
        FakeLease(),
        FakeEncryption(),
        work.clock,
        work.telemetry,
        work.outages,
        work.postponed,
        "https://hooks.example.com",
        NotifyTimes(poll_interval=0.005),
    )


@pytest.mark.parametrize("kind", [MailKind.DEAD_LETTERS, MailKind.PAUSED])
@pytest.mark.parametrize("wrong", [{"unreached": 5}, {"details": []}, {"others": {"by": "moon"}}], ids=str)
async def test_a_wrong_mail_delays_no_other(
    database: SqlStore, work: Work, kind: MailKind, wrong: Mapping[str, object]
) -> None:
    details = {"url": "https://crm.example.com", "count": 1, "since": "2026-04-10T12:00:00Z", "reason": "failures"}
    details |= {"failures": 5, "lastAt": "2026-04-10T12:00:00Z"}
    names = [f"mail_{number}" for number in (1, 2, 3)]
    async with database.database.transaction() as connection:
        for name in names:
            values = {"id": name, "key": name, "account_id": "acme", "webhook_id": "wh_crm", "kind": kind}
            await connection.execute(insert(mails).values(**values, details=details, created_at=NOON, due_at=NOON))
    await change(database, update(mails).where(mails.c.id == "mail_1").values(wrong))
    transport = Transport()

    async def are_sent() -> bool:
        query = select(mails.c.id).where(mails.c.sent_at.is_not(None))
        return {row.id for row in await database.database.rows(query)} == {"mail_2", "mail_3"}

    async with running(notify(database, work, transport).run()):
        await eventually(are_sent)
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.MAIL, "mail_1")}


async def test_a_wrong_reminder_stops_no_other(database: SqlStore, work: Work) -> None:
    await database.webhooks.add(Registration(webhook(id="wh_other"), NOON))
    for name in ("wh_crm", "wh_other"):
        dead = dead_letter(delivery=delivery(event_id=f"evt_{name}", webhook_id=name))
        await database.recorder.record(merge_records([RecordedValue(dead, NOON)]))
    stored_mails, failed = SqlMails(database.database, OutgoingEventWriter(AvroCodec())), list[FailedRow]()
    reminder = stored_mails._reminder

    def make_reminder(row: Any, now: Any) -> Mail:
        if row.id == "wh_crm":
            raise ValueError("not a time")
        return reminder(row, now)

    stored_mails._reminder = make_reminder  # type: ignore[method-assign]
    assert await stored_mails.enqueue_reminders(NOON + timedelta(days=1), failed) == 1
    assert [row.id for row in failed] == ["wh_crm"]


# -- record and meter ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [ValueError("not a time"), KeyError("kind"), RowRefused("a constraint")], ids=repr)
async def test_a_record_that_fails_in_sql_delays_no_other(work: Work, wrong: Exception) -> None:
    class WrongRecorder(FakeRecorder):
        async def record(self, batch: Batch) -> Any:
            if any(state.event_id == "evt_1" for state in batch.delivery_states):
                raise wrong
            return await super().record(batch)

    recorder, kafka = WrongRecorder(), FakeKafka(work.clock, partitions=1)
    consumer = FakeRecordConsumer(kafka, "record", [DELIVERIES])
    for number in (1, 2, 3):
        kafka.append(Outgoing(DELIVERIES, b"wh_crm", CODEC.encode(delivery(event_id=f"evt_{number}"))))
    stage = RecordStage(consumer, CODEC, recorder, kafka, work.clock, work.telemetry, work.outages)
    async with running(stage.run()):
        await until(lambda: {state.event_id for state in recorder.delivery_states.values()} == {"evt_2", "evt_3"})
        await until(lambda: work.telemetry.counts["invalid_records_total"] == 1)


@pytest.mark.parametrize("wrong", [ValueError("not a month"), RowRefused("a constraint")], ids=repr)
async def test_a_launch_that_fails_in_sql_delays_no_other(work: Work, wrong: Exception) -> None:
    counted: list[str] = []

    class WrongUsage:
        async def positions(self, incarnation: str, partitions: Sequence[int]) -> Mapping[int, int]:
            return dict.fromkeys(partitions, 0)

        async def count(self, incarnation: str, moves: Sequence[OffsetRange], batch: LaunchBatch) -> NewLaunches:
            await asyncio.sleep(0)
            ids = [launch.event_id for launch in batch.launches]
            if "evt_1" in ids:
                raise wrong
            counted.extend(ids)
            return NewLaunches(len(ids), 0)

    class WrongAccounts:
        async def find_existing(self, account_ids: Sequence[str]) -> set[str]:
            return set()

        async def add(self, accounts: Sequence[UnknownAccount]) -> None:
            raise wrong

    async def incarnation() -> str:
        return "first"

    kafka = FakeKafka(work.clock, partitions=1)
    data = {"sessionId": "s", "packageId": "p", "learnerId": "l"}
    for number in (1, 2, 3):
        launched = event(id=f"evt_{number}", type="session.launched", data=data, occurred_at=NOON)
        kafka.append(Outgoing(SESSION_EVENTS, b"k", CODEC.encode(launched)))
    check = AccountCheck(WrongAccounts(), work.telemetry, work.outages, work.postponed)
    consumer = FakeRecordConsumer(kafka, "meter", [SESSION_EVENTS])
    stage = Meter(consumer, CODEC, WrongUsage(), check, incarnation, work.clock, work.telemetry, work.outages)
    async with running(stage.run()):
        await until(lambda: counted == ["evt_2", "evt_3"])
        await until(lambda: bool(work.failed))
    assert work.failed == {(WorkKind.UNKNOWN_ACCOUNTS, "add")}


# -- the mechanism -------------------------------------------------------------------------------------------------


async def test_failed_work_waits_longer_each_time(work: Work) -> None:
    waits: list[int] = []
    for _ in range(12):
        async with work.postponed.unit(WorkKind.JOB, "job_1", "acme"):
            raise InvalidRecord("unknown")
        seconds = 0
        while not work.postponed.is_due(WorkKind.JOB, "job_1"):
            work.clock.advance(1)
            seconds += 1
        waits.append(seconds)
    assert waits[:3] == [5, 10, 20]
    assert waits[-1] == MAX_RETRY_SECONDS == retry_seconds(10_000)


async def test_work_that_succeeds_is_forgotten(work: Work) -> None:
    async with work.postponed.unit(WorkKind.JOB, "job_1", "acme"):
        raise ValueError("unknown")
    assert work.postponed.postponed_ids(WorkKind.JOB) == ["job_1"]
    async with work.postponed.unit(WorkKind.JOB, "job_1", "acme"):
        pass
    assert work.postponed.postponed_ids(WorkKind.JOB) == []
    assert work.failed == set()
    assert work.telemetry.logged_count("work_resumed") == 1


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), MemoryError(), OSError("no disk"), AssertionError()], ids=repr
)
async def test_all_else_ends_the_process(work: Work, error: Exception) -> None:
    with pytest.raises(type(error)):
        async with work.postponed.unit(WorkKind.JOB, "job_1", "acme"):
            raise error
    assert work.failed == set()


async def test_many_failures_of_a_kind_are_remembered(work: Work) -> None:
    for number in range(MAX_POSTPONED_PER_KIND + 5):
        await work.postponed.postpone(WorkKind.MAIL, f"mail_{number}", "acme", "wrong")
    assert len(work.postponed.postponed_ids(WorkKind.MAIL)) == MAX_POSTPONED_PER_KIND
    assert work.postponed.is_due(WorkKind.MAIL, "mail_0")


async def test_failed_work_is_stored_for_operators(database: SqlStore, work: Work) -> None:
    log = SqlFailedWork(database.database)
    stored = PostponedWork(log, work.clock, work.telemetry)
    for _ in range(2):
        work.clock.advance(60)
        async with stored.unit(WorkKind.JOB, "job_1", "acme"):
            raise ValueError("a null \0 and\nmore lines")
    first, last = NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)
    error = "ValueError: a null \\x00 and"
    assert await log.list_newest(10) == [FailedWork(WorkKind.JOB, "job_1", "acme", error, 2, first, last)]
    async with stored.unit(WorkKind.JOB, "job_1", "acme"):
        pass
    assert await log.list_newest(10) == []


async def test_old_failures_are_not_kept(database: SqlStore, work: Work) -> None:
    log = SqlFailedWork(database.database)
    for name in ("job_1", "job_2"):
        async with PostponedWork(log, work.clock, work.telemetry).unit(WorkKind.JOB, name, "acme"):
            raise ValueError("unknown")
        work.clock.advance(3600)
    assert [failure.work_id for failure in await log.list_newest(10)] == ["job_2"]


async def test_a_database_that_is_away_hides_no_failure(work: Work) -> None:
    class AwayLog(FakeFailedWork):
        async def note(self, failed_work: FailedWork) -> None:
            raise Unavailable("the database is away")

    postponed = PostponedWork(AwayLog(), work.clock, work.telemetry)
    async with postponed.unit(WorkKind.JOB, "job_1", "acme"):
        raise ValueError("unknown")
    assert work.telemetry.logged_count("work_postponed") == 1
    assert not postponed.is_due(WorkKind.JOB, "job_1")
