"""An erased learner is gone from every table, and records that arrive later do not bring the data back."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from sqlalchemy import insert, select

from builders import NOON
from contract.learners import (
    ADA,
    TRACES,
    attempt_at,
    dump,
    failure,
    learners,
    name_elsewhere,
    of_learner,
    open_sessions,
    record,
    record_each_state,
    traces,
)
from contract.stores import SqlStore, publish_all
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.adapters.sql.engine.encryption_check import SqlEncryptionCheck
from streams.adapters.sql.outgoing_events import SqlOutgoingEvents
from streams.adapters.sql.pruning import SqlPruning
from streams.adapters.sql.tables.course_sessions import commit_urls, player_states
from streams.adapters.sql.tables.deliveries import events, webhooks
from streams.core.accounts.account import DeliveryFilter
from streams.core.accounts.audit import AuditEntry, AuditFilter
from streams.core.deliveries.attempt import DeadLetter
from streams.core.deliveries.backfill import Backfill, OffsetRange, Period
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import Batch, DeliveryState, recorded_event, state_of_record
from streams.core.deliveries.job import Job, JobKind, JobStatus
from streams.core.encryption import WrongKeys
from streams.core.erasures.erasure import ERASED_REASON, Erasure
from streams.core.errors import Conflict, Invalid, InvalidRecord
from streams.features.course_sessions.changes import EventContext, launch
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.learners import erasure_steps
from streams.features.learners import storage as erasures_module
from streams.features.learners.storage import SqlErasures
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.idempotency import SqlIdempotencyStore
from streams.ports.storage import Prunable

LATER = NOON + timedelta(minutes=1)


async def erase(store: SqlStore, learner: str = ADA, account: str = "acme") -> Erasure:
    service = learners(store)
    return await service.finish(await service.start(account, learner, actor="key:key_1"))


async def state_of(store: SqlStore, delivery: Delivery) -> DeliveryState:
    seen = await store.delivery_log.find(delivery.id)
    assert seen is not None
    return seen.delivery_state


async def states(store: SqlStore) -> Sequence[tuple[State, str | None]]:
    page = await store.delivery_log.list(DeliveryFilter("acme"))
    return [(row.state, row.reason) for row in sorted(page.rows, key=lambda row: row.event_id)]


# -- what is erased --------------------------------------------------------------------------------------------


async def test_a_dump_has_nothing_of_an_erased_learner(database: SqlStore) -> None:
    await record_each_state(database)
    await name_elsewhere(database)
    await open_sessions(database)
    before = await dump(database)
    assert [trace for trace in TRACES if trace not in before] == []
    erasure = await erase(database)
    assert await traces(database) == []
    assert erasure.erased == {
        "events": 11,
        "deliveries": 11,
        "discarded": 9,
        "attempts": 9,
        "sessions": 2,
        "responses": 1,
        "mails": 1,
        "webhooks": 1,
        "auditEntries": 1,
    }


async def test_sessions_of_others_and_later_ones_stay(database: SqlStore) -> None:
    await open_sessions(database)
    sessions = SqlCourseSessions(database.database, AvroCodec(), FakeTelemetry(), FakeEncryption())
    later = CourseSession("acme", "sess_later", "pkg_1", ADA, NOON + timedelta(days=1), NOON + timedelta(days=2))
    url = CommitUrl("f" * 64, "acme", "sess_later", NOON + timedelta(days=2))
    await sessions.open(launch(later, EventContext(NOON, lambda: "evt_later")), url, lambda known: None)
    assert (await erase(database)).erased["sessions"] == 2
    kept = [
        name
        for name in ("sess_of_ada_0", "sess_of_ada_1", "sess_of_grace", "sess_later")
        if await sessions.find("acme", name)
    ]
    assert kept == ["sess_of_grace", "sess_later"]
    waiting = await SqlOutgoingEvents(database.database).list_due(10)
    assert sorted(one.key for one in waiting) == ["sess_later", "sess_of_grace"]
    assert await database.count(commit_urls) == 2
    assert await database.count(player_states) == 1


async def test_owed_and_dead_deliveries_end_as_discarded(database: SqlStore) -> None:
    await record_each_state(database)
    await erase(database)
    ended = (State.DISCARDED, ERASED_REASON)
    assert await states(database) == [(State.DELIVERED, ERASED_REASON), *[ended] * 4, (State.DELIVERED, ERASED_REASON)]
    assert {row.generation for row in (await database.delivery_log.list(DeliveryFilter("acme"))).rows} == {2}


async def test_a_second_erasure_finds_nothing(database: SqlStore) -> None:
    await record_each_state(database)
    await name_elsewhere(database)
    await erase(database)
    before = await states(database)
    assert set((await erase(database)).erased.values()) == {0}
    assert await states(database) == before


async def test_an_account_erases_a_limited_number_a_day(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures_module, "MAX_ERASURES_PER_DAY", 1)
    await erase(database)
    with pytest.raises(Conflict, match="erased 1 learners in the last 24 hours"):
        await erase(database, "grace")
    database.clock.advance(86_400)
    await erase(database, "grace")


async def test_other_learners_and_accounts_keep_their_data(database: SqlStore) -> None:
    theirs, elsewhere = of_learner(1, learner="grace"), of_learner(1, account_id="globex", webhook_id="wh_2")
    await record(database, theirs, elsewhere, attempt_at(theirs))
    await erase(database)
    for kept in (theirs, elsewhere):
        seen = await database.delivery_log.find(kept.id)
        assert seen is not None
        assert (seen.body, seen.delivery_state.reason) == (kept.body, None)


async def test_a_delivery_in_a_replay_is_not_sent(database: SqlStore) -> None:
    dead = of_learner(1)
    await publish_all(database)
    await record(database, DeadLetter(dead.to_final(is_attempted=True), DeathReason.EXHAUSTED, "It failed."))
    assert await database.replays.replay(DeliveryFilter(ids=[dead.id])) == [dead.id]
    assert await database.held.oldest("wh_crm", 10) != []
    await erase(database)
    assert await database.held.oldest("wh_crm", 10) == []
    assert (await state_of(database, dead)).generation == 3


async def test_an_erased_delivery_is_not_replayed(database: SqlStore) -> None:
    await record_each_state(database)
    await erase(database)
    assert await database.replays.replay(DeliveryFilter("acme")) == []
    wanted = DeliveryFilter("acme", "wh_crm", states=(State.DELIVERED, State.DISCARDED), without_tests=True)
    assert (await database.delivery_log.summary(wanted)).count == 0
    entry = AuditEntry("audit_9", "ada", "webhook.replayed", "wh_crm", NOON, "acme")
    job = await database.jobs.add(Job("job_1", "acme", JobKind.REPLAY, wanted, NOON), entry)
    job = await database.jobs.do_next_portion(job.id)
    assert (job.status, job.total, job.done, job.failed) == (JobStatus.FINISHED, 0, 0, 0)


async def test_a_stored_response_that_names_the_learner_is_empty(database: SqlStore) -> None:
    await name_elsewhere(database)
    responses = SqlIdempotencyStore(database.database)
    await responses.begin("key:key_1", "other", "f", NOON)
    await responses.finish("key:key_1", "other", NOON, 201, 'encrypted:["{}", {}]')
    await erase(database)
    erased = await responses.begin("key:key_1", "once", "f", NOON)
    kept = await responses.begin("key:key_1", "other", "f", NOON)
    assert erased
    assert (erased.status, erased.encrypted_response) == (200, 'encrypted:["", {}]')
    assert kept
    assert kept.encrypted_response == 'encrypted:["{}", {}]'


async def test_the_audit_log_has_who_and_counts_but_no_id(database: SqlStore) -> None:
    await record_each_state(database)
    erasure = await erase(database)
    entries = (await SqlAuditLog(database.database).list(AuditFilter(object_id=erasure.id), None, 10)).rows
    assert sorted(entry.action for entry in entries) == ["learner.erased", "learner.erasure_finished"]
    assert {(entry.actor, entry.account_id) for entry in entries} == {("key:key_1", "acme")}
    assert ADA not in str(entries)
    assert {entry.details["learnerHash"] for entry in entries} == {erasure.learner_hash}


async def test_a_hash_is_of_one_account_and_one_learner(database: SqlStore) -> None:
    hash_of = database.erasures.hash_learner
    assert await hash_of("acme", ADA) == await hash_of("acme", ADA)
    assert len({await hash_of("acme", ADA), await hash_of("globex", ADA), await hash_of("acme", "grace")}) == 3


async def test_ids_of_other_scripts_and_signs_are_erased(database: SqlStore) -> None:
    for number, learner in enumerate(["Zoë Müller", "%", "学习者", "a" * 1024, "\\", "'; DROP TABLE events"]):
        await record(database, of_learner(number, learner=learner))
        assert (await erase(database, learner)).erased["events"] == 1, learner


async def test_long_ids_with_the_same_start_are_different(database: SqlStore) -> None:
    await record(database, of_learner(1, learner="a" * 1000 + "1"), of_learner(2, learner="a" * 1000 + "2"))
    assert (await erase(database, "a" * 1000 + "1")).erased["events"] == 1
    assert (await erase(database, "a" * 1000)).erased["events"] == 0


async def test_a_wrong_request_names_the_field(database: SqlStore) -> None:
    for learner in ("", "a" * 1025, "a\0b", "\ud800"):
        with pytest.raises(Invalid, match="learnerId: must be a text of 1 to 1024 characters"):
            await learners(database).start("acme", learner, actor="ada")
    with pytest.raises(Invalid, match="accountId: there is no account nobody"):
        await learners(database).start("nobody", ADA, actor="ada")


# -- portions --------------------------------------------------------------------------------------------------


async def test_a_large_learner_is_erased_in_portions(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_steps, "EVENTS_PER_PORTION", 3)
    monkeypatch.setattr(erasure_steps, "DELIVERIES_PER_PORTION", 2)
    monkeypatch.setattr(erasure_steps, "ROWS_PER_PORTION", 1)
    await record_each_state(database)
    await name_elsewhere(database)
    for webhook_id in ("wh_2", "wh_3"):
        await record(database, of_learner(1, webhook_id=webhook_id))
    erasure, portion_count = await learners(database).start("acme", ADA, actor="ada"), 0
    while not erasure.is_finished:
        erasure = await database.erasures.do_next_portion(erasure.id)
        portion_count += 1
    assert portion_count > 10
    assert (erasure.erased["events"], erasure.erased["deliveries"]) == (11, 13)
    assert await traces(database) == []


async def test_an_erasure_goes_on_after_a_crash(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure_steps, "EVENTS_PER_PORTION", 2)
    await record_each_state(database)
    erasure = await learners(database).start("acme", ADA, actor="ada")
    await database.erasures.do_next_portion(erasure.id)
    [left] = await database.erasures.list_unfinished(NOON + timedelta(days=1))
    assert ADA not in repr(left)
    finished = await learners(database).finish(left)
    assert finished.erased["events"] == 6
    assert await database.erasures.list_unfinished(NOON + timedelta(days=1)) == []
    assert await traces(database) == []


async def test_an_unfinished_erasure_has_the_id_encrypted(database: SqlStore) -> None:
    erasure = await learners(database).start("acme", ADA, actor="ada")
    assert f"encrypted:{ADA}" in await dump(database)
    await learners(database).finish(erasure)
    assert ADA not in await dump(database)


# -- records that arrive later ---------------------------------------------------------------------------------


async def test_a_delivery_that_is_recorded_late_is_erased(database: SqlStore) -> None:
    await erase(database)
    late = of_learner(1)
    assert not await database.recorder.record(batch_of(late))
    assert await traces(database) == []
    assert await states(database) == [(State.DISCARDED, ERASED_REASON)]
    await record(database, late)
    assert (await state_of(database, late)).generation == 2


def batch_of(delivery: Delivery) -> Batch:
    key = delivery.account_id, delivery.event_id
    return Batch([state_of_record(delivery, NOON)], (), {key: recorded_event(delivery)})


async def test_a_second_body_of_an_erased_event_is_no_conflict(database: SqlStore) -> None:
    await record(database, of_learner(1))
    await erase(database)
    again = of_learner(1)
    assert not await database.recorder.record(batch_of(again._replace(body=again.body.replace(b"PT7M", b"PT8M"))))


async def test_an_attempt_that_is_reported_late_is_erased(database: SqlStore) -> None:
    known, unknown = of_learner(1), of_learner(2)
    await record(database, known)
    await erase(database)
    await record(database, attempt_at(known), failure(unknown))
    # Its delivery is read after its attempt.
    await record(database, unknown)
    assert await traces(database) == []
    assert await states(database) == [(State.DISCARDED, ERASED_REASON)] * 2


async def test_late_records_of_each_kind_change_nothing(database: SqlStore) -> None:
    known = of_learner(1)
    await record(database, known, failure(known))
    await erase(database)
    before = await state_of(database, known)
    retried = known._replace(step=3, attempt=2)
    await record(database, retried, failure(retried, number=2), attempt_at(retried, number=3, step=9))
    await record(database, retried.to_held(HoldReason.BUSY, None, is_attempted=True))
    await record(database, DeadLetter(retried.to_final(is_attempted=True), DeathReason.EXHAUSTED, f"It said {ADA}."))
    assert await state_of(database, known) == before
    assert await traces(database) == []


async def test_a_waiting_retry_is_superseded(database: SqlStore) -> None:
    waiting = of_learner(1)
    await record(database, waiting, failure(waiting))
    await erase(database)
    newest = await database.replay_lookup.newest_generation(waiting.id)
    assert newest is not None
    assert newest > waiting.generation


async def test_a_new_launch_after_the_erasure_is_new_data(database: SqlStore) -> None:
    await erase(database)
    new = of_learner(1, at=LATER)
    await record(database, new, attempt_at(new))
    seen = await database.delivery_log.find(new.id)
    assert seen is not None
    assert (seen.body, seen.delivery_state.reason) == (new.body, None)
    assert (await erase(database)).erased["events"] == 1


async def test_an_old_event_that_is_published_again_is_erased(database: SqlStore) -> None:
    await erase(database)
    # A new place in the topic, the time of then in its body.
    await record(database, of_learner(1)._replace(first_seen_at=LATER))
    assert await traces(database) == []


async def test_events_of_a_broker_whose_clock_is_ahead_are_erased(database: SqlStore) -> None:
    await record(database, of_learner(1, at=LATER))
    assert (await erase(database)).erased["events"] == 1


async def test_a_backfill_leaves_erased_events_out(database: SqlStore) -> None:
    await erase(database)
    wanted = DeliveryFilter("acme", "wh_crm", since=NOON - timedelta(days=1), until=NOON)
    entry = AuditEntry("audit_9", "ada", "webhook.replayed", "wh_crm", NOON, "acme")
    job = Job("job_1", "acme", JobKind.REPLAY, wanted, NOON, backfill=Backfill(is_due=True))
    job = await database.jobs.add(job, entry)
    begun = Backfill(is_due=True).begin(Period((OffsetRange(0, 0, 1),), None))
    job = await database.jobs.store_backfill(job, begun, Batch())
    held = of_learner(1)._replace(hold_reason=HoldReason.REPLAY)
    job = await database.jobs.store_backfill(job, begun.after_reading({0: 1}), batch_of(held))
    assert job.backfill
    assert (job.backfill.added, job.backfill.skipped) == (0, 1)
    assert await states(database) == []
    key = held.account_id, held.event_id
    assert await database.erasures.find_erased({key: recorded_event(held)}) == {key}


async def test_a_wrong_key_makes_records_wait(database: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await erase(database)
    monkeypatch.setattr(FakeEncryption, "decrypt", no_key_fits)
    with pytest.raises(WrongKeys):
        await record(database, of_learner(1))
    assert await states(database) == []


def no_key_fits(encryption: FakeEncryption, ciphertext: str) -> str:
    raise InvalidRecord("no encryption key fits")


# -- locks, keys, retention ------------------------------------------------------------------------------------


async def test_an_erasure_waits_for_a_batch_that_stores_events(database: SqlStore) -> None:
    ahead = of_learner(1)
    async with database.database.transaction() as connection:
        await connection.execute(select(webhooks.c.id).with_for_update())
        row = {"account_id": "acme", "event_id": "evt_1", "first_seen_at": NOON, "body": ahead.body, "learner_id": ADA}
        await connection.execute(insert(events).values(row | {"hash": ahead.event_hash}))
        started = asyncio.create_task(learners(database).start("acme", ADA, actor="ada"))
        _, pending = await asyncio.wait({started}, timeout=0.2)
        assert pending == {started}
    erasure = await learners(database).finish(await started)
    assert erasure.erased["events"] == 1
    assert await traces(database) == []


async def test_a_new_encryption_key_forgets_no_erasure(database: SqlStore) -> None:
    # Its secrets have no such key.
    await database.webhooks.change("wh_crm", lambda known: None)
    old, new = generate_key(), generate_key()

    def erasures_by(*keys: str) -> SqlErasures:
        return SqlErasures(database.database, FernetEncryption(keys), database.clock, lambda size: b"k" * size)

    hashed = await erasures_by(old).hash_learner("acme", ADA)
    erasure = Erasure("ers_1", "acme", hashed.learner_hash, NOON, NOON, "ada")
    entry = AuditEntry("audit_1", "ada", "x", "ers_1", NOON)
    running = await erasures_by(old).start(erasure, hashed.hash_key_id, ADA, entry)
    both = FernetEncryption([new, old])
    await SqlEncryptionCheck(database.database, both).require_right_keys()
    await SqlEncryptionCheck(database.database, both).reencrypt()
    assert await erasures_by(new).hash_learner("acme", ADA) == hashed
    assert (await erasures_by(new).do_next_portion(running.id)).id == running.id
    with pytest.raises(WrongKeys):
        await erasures_by(old).hash_learner("acme", ADA)


async def test_only_finished_erasures_are_pruned(database: SqlStore) -> None:
    await erase(database)
    running = await learners(database).start("acme", "grace", actor="ada")
    pruning = SqlPruning(database.database)
    assert (await pruning.prune(Prunable.ERASURES, NOON, 10)).rows == 0
    assert (await pruning.prune(Prunable.ERASURES, LATER, 10)).rows == 1
    assert await database.erasures.find(running.id) is not None
