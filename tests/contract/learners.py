"""A learner in every table, and a dump of all tables to search."""

import json
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import select

from builders import NOON, attempt, delivery, event
from contract.stores import SqlStore
from fakes import FakeEncryption, FakeTelemetry
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.sql.tables.types import metadata
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, Trigger
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.events.event import render
from streams.features.course_sessions.changes import EventContext, apply_commit, launch
from streams.features.course_sessions.commit import PlayerCommit
from streams.features.course_sessions.player_state import StoreResult
from streams.features.course_sessions.session import CommitUrl, CourseSession
from streams.features.course_sessions.storage import SqlCourseSessions
from streams.features.learners.service import LearnerService
from streams.features.shared.accounts import SqlAccounts
from streams.features.shared.audit_log import SqlAuditLog
from streams.features.shared.idempotency import SqlIdempotencyStore

ADA = "ada.lovelace@uni.example"
BEFORE = NOON - timedelta(hours=1)
AT_NOON = EventContext(NOON, lambda: "evt_unused")
# What a dump must not have afterwards.
TRACES = (ADA, "lovelace", "sess_of_ada", "pkg_of_ada", "dsp_of_ada", "PT7M7S")


def of_learner(number: int, learner: str = ADA, at: datetime = BEFORE, **changes: Any) -> Delivery:
    """A delivery of a learner's event that happened at a time."""
    data = {
        "sessionId": "sess_of_ada",
        "packageId": "pkg_of_ada",
        "dispatchId": "dsp_of_ada",
        "learnerId": learner,
        "completionStatus": "completed",
        "successStatus": "passed",
        "totalTime": "PT7M7S",
    }
    happened = event(id=f"evt_{number}", occurred_at=at, data=data)
    return delivery(event_id=happened.id, first_seen_at=at, body=render(happened), **changes)


def attempt_at(delivery: Delivery, **changes: Any) -> Attempt:
    """An attempt whose response repeats what it got."""
    made = attempt(
        event_id=delivery.event_id,
        generation=delivery.generation,
        step=delivery.step + 1,
        first_seen_at=delivery.first_seen_at,
        trigger=delivery.trigger,
        response_headers={"x-learner": ADA},
        response_body=delivery.body,
        message=f"The endpoint's response is not HTTP (hello {ADA}).",
    )
    return made._replace(**changes)


def failure(delivery: Delivery, **changes: Any) -> Attempt:
    following = {"outcome": OutcomeKind.INVALID_RESPONSE, "next_step": NextStep.TIER, "tier": "30s", "status": None}
    return attempt_at(delivery, **{**following, **changes})


async def record(store: SqlStore, *values: Delivery | Attempt | DeadLetter, at: datetime = NOON) -> None:
    await store.recorder.record(merge_records([RecordedValue(value, at) for value in values]))


async def record_each_state(store: SqlStore) -> None:
    """Deliveries 1 to 6: delivered, waiting in a tier, held, dead, waiting without an attempt, a test."""
    delivered, waiting, held, dead, first, test = (of_learner(number) for number in range(1, 7))
    await record(store, delivered, attempt_at(delivered), waiting, failure(waiting))
    await record(store, held.to_held(HoldReason.PAUSED, "pause_1", is_attempted=False), first)
    await record(store, failure(dead, next_step=NextStep.DEAD, tier=None))
    await record(store, DeadLetter(dead.to_final(is_attempted=True), DeathReason.EXHAUSTED, f"It said {ADA}."))
    await record(store, test._replace(trigger=Trigger.TEST), attempt_at(test._replace(trigger=Trigger.TEST)))


async def open_sessions(store: SqlStore) -> None:
    """Two SCORM sessions with events that are not sent yet, and one of another learner."""
    sessions = SqlCourseSessions(store.database, AvroCodec(), FakeTelemetry(), FakeEncryption())
    for number, learner in enumerate((ADA, ADA, "grace")):
        name = "sess_of_grace" if learner == "grace" else f"sess_of_ada_{number}"
        package = "pkg_of_ada" if learner == ADA else "pkg"
        more: dict[str, Any] = {"metadata": {"who": learner}, "stored_state": StoreResult.NOTHING}
        new = CourseSession("acme", name, package, learner, BEFORE, NOON, **more)
        token = f"{number}" * 64
        launched = launch(new, EventContext(NOON, partial(str, f"evt_launch_{number}")))
        await sessions.open(launched, CommitUrl(token, "acme", name, NOON), lambda known: None)
        commit = PlayerCommit(data={"cmi": {"suspend_data": f"The name is {learner}."}})
        assert await sessions.commit(token, lambda known, _, commit=commit: apply_commit(known, commit, AT_NOON))  # type: ignore[misc]


async def name_elsewhere(store: SqlStore) -> None:
    """A stored response, an entry of the audit log and a mail that name the learner."""
    responses = SqlIdempotencyStore(store.database)
    await responses.begin("key:key_1", "once", "f", NOON)
    body = json.dumps({"payload": {"data": {"learnerId": ADA}}})
    await responses.finish("key:key_1", "once", NOON, 200, f"encrypted:{json.dumps([body, {}])}")
    details = {"changes": {"description": {"from": f"For {ADA}.", "to": "For all"}}}
    entry = AuditEntry("audit_x", "cli:ada", "webhook.changed", "wh_crm", NOON, "acme", details)
    await SqlAuditLog(store.database).add(entry)
    # The fifth failure pauses the webhook: a mail has its message.
    failures = [failure(of_learner(number), started_at=NOON, ended_at=NOON) for number in range(101, 106)]
    for second, made in enumerate(failures):
        at = NOON + timedelta(seconds=second)
        await record(store, made._replace(started_at=at, ended_at=at))
    await record(store, *(of_learner(number) for number in range(101, 106)))


def learners(store: SqlStore) -> LearnerService:
    accounts = SqlAccounts(store.database)
    return LearnerService(accounts, store.erasures, store.erasure_outbox, (), store.clock)


async def dump(store: SqlStore) -> str:
    """Every row of every table, as text."""
    lines = []
    async with store.database.read_transaction() as connection:
        for table in metadata.sorted_tables:
            lines += [f"{table.name}: {tuple(row)!r}" for row in await connection.execute(select(table))]
    return "\n".join(lines)


async def traces(store: SqlStore) -> list[str]:
    """Each trace of the learner, with the rows that have it."""
    rows = (await dump(store)).splitlines()
    return [row for row in rows if any(trace in row for trace in TRACES)]
