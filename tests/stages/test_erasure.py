"""Records of an erased learner are not sent, and `publish` finishes what a request began."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from builders import EXAMPLE, NOON, delivery, event, webhook
from fakes import FakeClock, FakeTelemetry, cancel_others, postponed_work, until
from stages.pipeline import BROKEN, SCHEDULE, URL, Pipeline
from streams.core.accounts.audit import AuditEntry
from streams.core.deliveries.delivery import Trigger
from streams.core.deliveries.outcome import Response
from streams.core.encryption import WrongKeys
from streams.core.erasures.erasure import Erasure, HashedLearner
from streams.core.errors import Unavailable
from streams.core.events.event import Event, render
from streams.core.failed_work import FailedRows
from streams.features.learners.stage import TAKEOVER_DELAY, finish_erasures
from streams.topics import TEST_DELIVERIES, retry_topic

LEARNER = str(EXAMPLE["learnerId"])


def old(**changes: object) -> Event:
    """An event that happened an hour before noon."""
    return event(occurred_at=NOON - timedelta(hours=1), **changes)


# -- deliver ---------------------------------------------------------------------------------------------------


async def test_an_event_that_is_fanned_out_late_is_not_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.erased.erased_at[LEARNER] = NOON
    await pipeline.fan_out_events(old())
    assert pipeline.sender.requests == []
    assert pipeline.telemetry.counts["deliveries_erased_total"] == 1


async def test_a_tiers_record_does_not_fire_after_an_erasure(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.sender.responses(URL, BROKEN, Response(200, {}))
    await pipeline.fan_out_events(old())
    pipeline.erased.erased_at[LEARNER] = pipeline.clock.now()
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    assert len(pipeline.sender.requests) == 1
    assert len(pipeline.kafka.topic(retry_topic(SCHEDULE.tiers[0]))) == 1


async def test_a_test_of_before_the_erasure_is_not_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.erased.erased_at[LEARNER] = NOON
    await pipeline.put(TEST_DELIVERIES, delivery(trigger=Trigger.TEST, body=render(old())))
    assert pipeline.sender.requests == []


async def test_what_happens_after_an_erasure_is_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.erased.erased_at[LEARNER] = NOON
    pipeline.clock.advance(60)
    await pipeline.fan_out_events(event(id="evt_new", occurred_at=NOON + timedelta(seconds=59)))
    await pipeline.fan_out_events(old(id="evt_other", data={**EXAMPLE, "learnerId": "another"}))
    assert set(pipeline.sent()) == {"evt_new", "evt_other"}


# -- publish ---------------------------------------------------------------------------------------------------


@dataclass
class FakeErasures:
    """`Erasures` with some portions left, by id. The first `away` calls fail."""

    portions: dict[str, int]
    away: int = 0
    found: dict[str, Erasure] = field(default_factory=dict)

    async def hash_learner(self, account_id: str, learner_id: str) -> HashedLearner:
        return HashedLearner("key", f"hash of {account_id}/{learner_id}")

    async def start(self, erasure: Erasure, hash_key_id: str, learner_id: str, audit_entry: AuditEntry) -> Erasure:
        self.found[erasure.id] = erasure
        return erasure

    async def find(self, erasure_id: str) -> Erasure | None:
        return self.found.get(erasure_id)

    async def list_unfinished(self, before: datetime, failed_rows: FailedRows = None) -> Sequence[Erasure]:
        await asyncio.sleep(0)
        if self.away:
            self.away -= 1
            raise Unavailable("the database is away")
        return [one for one in self.found.values() if not one.is_finished and one.created_at < before]

    async def do_next_portion(self, erasure_id: str) -> Erasure:
        if erasure_id not in self.portions:
            raise WrongKeys
        self.portions[erasure_id] -= 1
        erasure = self.found[erasure_id]
        if not self.portions[erasure_id]:
            erasure = self.found[erasure_id] = replace(erasure, finished_at=NOON)
        return erasure


async def test_publish_finishes_what_a_request_left() -> None:
    clock, telemetry = FakeClock(), FakeTelemetry()
    erasures = FakeErasures({"ers_1": 3, "ers_2": 1}, away=2)
    # No key decrypts the first one.
    for erasure_id, age in (("ers_0", TAKEOVER_DELAY), ("ers_1", TAKEOVER_DELAY), ("ers_2", timedelta(0))):
        at = clock.now() - age - timedelta(seconds=1)
        erasures.found[erasure_id] = Erasure(erasure_id, "acme", "hash", at, at, "ada")
    work = postponed_work(telemetry)
    finishing = finish_erasures(erasures, clock, telemetry, work, poll_interval_seconds=0, portion_pause_seconds=0)
    task = asyncio.create_task(finishing)
    await until(lambda: erasures.found["ers_1"].is_finished)
    # The second one's request is still at work.
    assert erasures.portions == {"ers_1": 0, "ers_2": 1}
    clock.advance(TAKEOVER_DELAY.total_seconds())
    await until(lambda: erasures.found["ers_2"].is_finished)
    assert telemetry.logged_count("erasure_finished") == 2
    assert not task.done()
    await cancel_others()
