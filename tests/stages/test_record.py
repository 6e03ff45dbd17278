"""`record` stores each delivery and attempt once, through outages and refused rows."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
import pytest_asyncio

from builders import NOON, attempt, dead_letter, delivery, event, webhook
from fakes import (
    NEWER_CODEC,
    FakeClock,
    FakeKafka,
    FakeRecordConsumer,
    FakeRecorder,
    FakeTelemetry,
    cancel_others,
    no_wait,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.attempt import Attempt, NextStep
from streams.core.deliveries.delivery import HoldReason, State
from streams.core.deliveries.delivery_state import Batch, RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.records.offset_tracker import Commit
from streams.core.webhooks.webhook import Status
from streams.outage import Outages
from streams.ports.kafka import Codec, Outgoing, Partition, RecordValue
from streams.stages import record as record_module
from streams.stages.consuming.batch_consumer import MIN_RECORDS_WITHOUT_WAIT, Batching
from streams.stages.record import RecordStage
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, INVALID

CODEC = AvroCodec()
AT_ONCE = Batching(min_interval_seconds=0, retry_seconds=0, linger_seconds=0)
TOPICS: dict[str, RecordValue] = {ATTEMPTS: attempt(), DELIVERIES: delivery(), DEAD_LETTERS: dead_letter()}


class RecordFixture:
    """The `record` stage, with one partition a topic, and its database."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock, partitions=1)
        self.recorder = FakeRecorder()
        self.recorder.webhooks.put(webhook())
        self.telemetry = FakeTelemetry()
        self.start()

    def start(self, codec: Codec = CODEC, batching: Batching = AT_ONCE) -> None:
        self.consumer = FakeRecordConsumer(self.kafka, "record", [DELIVERIES, HELD, DEAD_LETTERS, ATTEMPTS])
        outages = Outages(self.telemetry, sleep=no_wait)
        self.stage = RecordStage(
            self.consumer, codec, self.recorder, self.kafka, self.clock, self.telemetry, outages, batching=batching
        )
        self.running = asyncio.create_task(self.stage.run())

    async def restart(self, batching: Batching) -> None:
        await cancel_others()
        self.start(batching=batching)

    def add(self, topic: str, *values: RecordValue) -> None:
        for value in values:
            self.kafka.append(Outgoing(topic, b"wh_crm", CODEC.encode(value)))

    def committed(self, topic: str) -> int:
        return self.consumer.committed.get(Partition(topic, 0), Commit(0, "")).offset


@pytest_asyncio.fixture
async def fixture() -> AsyncIterator[RecordFixture]:
    yield RecordFixture()
    await cancel_others()


async def test_few_records_are_stored_in_batches_apart(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, min_interval_seconds=3600))
    fixture.add(ATTEMPTS, attempt())
    await quiet()
    assert fixture.committed(ATTEMPTS) == 1
    fixture.add(ATTEMPTS, *[attempt(webhook_id=f"wh_{number}") for number in range(MIN_RECORDS_WITHOUT_WAIT - 1)])
    await quiet()
    assert fixture.committed(ATTEMPTS) == 1
    fixture.add(ATTEMPTS, attempt(webhook_id="wh_last"))
    await quiet()
    assert fixture.committed(ATTEMPTS) == MIN_RECORDS_WITHOUT_WAIT + 1


async def test_a_drain_ends_the_rest_between_batches(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, min_interval_seconds=3600))
    for _ in range(2):
        fixture.add(ATTEMPTS, attempt())
        await quiet()
    assert fixture.committed(ATTEMPTS) == 1
    await fixture.stage.drain(10)
    assert fixture.committed(ATTEMPTS) == 2


async def test_a_delivery_its_attempts_and_its_body_become_visible(fixture: RecordFixture) -> None:
    fixture.add(DELIVERIES, delivery())
    fixture.add(ATTEMPTS, attempt())
    await quiet()
    (state,) = fixture.recorder.delivery_states.values()
    assert (state.state, state.attempts) == (State.DELIVERED, 1)
    assert list(fixture.recorder.attempts) == [attempt().id]
    logged = [(line["delivery_id"], line["state"]) for line in fixture.telemetry.fields_of("delivery_recorded")]
    assert logged[-1] == (delivery().id, "delivered")
    assert fixture.recorder.bodies == {("acme", event().id): delivery().body}


async def test_held_and_dead_deliveries_become_visible(fixture: RecordFixture) -> None:
    fixture.add(HELD, delivery(event_id="evt_1").to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))
    fixture.add(DEAD_LETTERS, dead_letter(delivery=delivery(event_id="evt_2")))
    await quiet()
    states = {state.event_id: state.state for state in fixture.recorder.delivery_states.values()}
    assert states == {"evt_1": State.HELD, "evt_2": State.DEAD}


async def test_offsets_are_committed_after_the_transaction(fixture: RecordFixture) -> None:
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt())
    await quiet()
    assert fixture.committed(ATTEMPTS) == 0
    fixture.recorder.away = False
    await until(lambda: fixture.committed(ATTEMPTS) == 1)
    assert fixture.recorder.attempts


async def test_a_database_outage_is_waited_for_and_logged_once(fixture: RecordFixture) -> None:
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: fixture.recorder.calls > 5)
    assert fixture.telemetry.logged_count("database_unreachable") == 1
    fixture.recorder.away = False
    await until(lambda: len(fixture.recorder.attempts) == 1)
    await quiet()
    assert fixture.telemetry.logged_count("database_reachable") == 1


async def test_a_restart_from_the_last_commit_changes_nothing(fixture: RecordFixture) -> None:
    fixture.add(ATTEMPTS, *(attempt(number=number, outcome=OutcomeKind.TIMEOUT) for number in (1, 2, 3)))
    await quiet()
    before = fixture.recorder.delivery_states.copy(), fixture.recorder.attempts.copy(), fixture.recorder.health.copy()
    await cancel_others()
    fixture.consumer.committed.clear()
    fixture.start()
    await until(lambda: fixture.committed(ATTEMPTS) == 3)
    assert (fixture.recorder.delivery_states, fixture.recorder.attempts, fixture.recorder.health) == before


async def test_a_buffered_record_is_read_again_after_a_crash(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, linger_seconds=60))
    fixture.add(DELIVERIES, delivery())
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: fixture.committed(ATTEMPTS) == 1)
    assert fixture.recorder.bodies == {}
    await cancel_others()
    fixture.start()
    await until(lambda: fixture.committed(DELIVERIES) == 1)
    assert len(fixture.recorder.bodies) == 1
    assert [state.state for state in fixture.recorder.delivery_states.values()] == [State.DELIVERED]


# -- invalid records --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", list(TOPICS))
@pytest.mark.parametrize("invalid", [b"\xff\x00 junk", None, b"", CODEC.encode(webhook())])
async def test_an_invalid_record_is_stored_and_stops_nothing(
    fixture: RecordFixture, topic: str, invalid: bytes | None
) -> None:
    fixture.kafka.append(Outgoing(topic, b"wh_crm", invalid, [("trace", b"1")]))
    fixture.add(topic, TOPICS[topic])
    await until(lambda: fixture.committed(topic) == 2)
    (to_invalid_record,) = fixture.kafka.topic(INVALID)
    assert (to_invalid_record.key, to_invalid_record.value, to_invalid_record.headers[0]) == (
        b"wh_crm",
        invalid,
        ("trace", b"1"),
    )
    headers = dict(to_invalid_record.headers)
    assert headers["origin-topic"] == topic.encode()
    assert headers["origin-offset"] == b"0"
    assert headers["error"]
    assert len(fixture.recorder.delivery_states) == 1


async def test_a_refused_row_is_stored_without_details(fixture: RecordFixture) -> None:
    def has_zero(batch: Batch) -> bool:
        return any(b"\0" in attempt.response_body for attempt in batch.attempts)

    fixture.recorder.refuses = has_zero
    made = [attempt(event_id=f"evt_{number}") for number in range(9)]
    made[5] = attempt(event_id="evt_5", response_body=b"a\0b")
    fixture.add(ATTEMPTS, *made)
    await until(lambda: fixture.committed(ATTEMPTS) == 9)
    kept = {attempt.event_id: attempt.response_body for attempt in fixture.recorder.attempts.values()}
    assert kept == {f"evt_{number}": b"" if number == 5 else b"thanks" for number in range(9)}
    assert fixture.telemetry.counts["records_refused_total"] == 1
    assert fixture.telemetry.counts["records_stored_total"] == 8
    [line] = fixture.telemetry.fields_of("record_stored_without_details")
    assert (line["topic"], line["offset"]) == (ATTEMPTS, 5)


async def test_a_row_refused_even_without_details_stops_no_other(fixture: RecordFixture) -> None:
    fixture.recorder.refuses = lambda batch: any(attempt.event_id == "evt_1" for attempt in batch.attempts)
    fixture.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(3)))
    await until(lambda: fixture.committed(ATTEMPTS) == 3)
    assert {attempt.event_id for attempt in fixture.recorder.attempts.values()} == {"evt_0", "evt_2"}
    (kept,) = fixture.kafka.topic(INVALID)
    assert kept.value == CODEC.encode(attempt(event_id="evt_1"))
    assert b"cannot be stored" in dict(kept.headers)["error"]


async def test_a_record_that_breaks_our_code_is_stored_as_invalid(
    fixture: RecordFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(entries: Sequence[RecordedValue]) -> Batch:
        if any(entry.value.event_id == "evt_1" for entry in entries if isinstance(entry.value, Attempt)):
            raise ZeroDivisionError("a defect")
        return merge_records(entries)

    monkeypatch.setattr(record_module, "merge_records", broken)
    fixture.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(3)))
    await until(lambda: fixture.committed(ATTEMPTS) == 3)
    assert {attempt.event_id for attempt in fixture.recorder.attempts.values()} == {"evt_0", "evt_2"}
    (kept,) = fixture.kafka.topic(INVALID)
    assert b"ZeroDivisionError: a defect" in dict(kept.headers)["error"]


async def test_a_crash_before_invalid_records_are_stored_repeats_them(fixture: RecordFixture) -> None:
    fixture.kafka.append(Outgoing(ATTEMPTS, b"wh_crm", b"junk"))
    fixture.add(ATTEMPTS, attempt())
    fixture.kafka.die_in(1)
    await until(lambda: fixture.kafka.is_dead)
    assert len(fixture.recorder.attempts) == 1
    assert fixture.committed(ATTEMPTS) == 0
    await cancel_others()
    fixture.kafka.revive()
    fixture.start()
    await until(lambda: fixture.committed(ATTEMPTS) == 2)
    assert [record.value for record in fixture.kafka.topic(INVALID)] == [b"junk"]
    assert len(fixture.recorder.attempts) == 1


# -- limits, and the end ---------------------------------------------------------------------------------------


async def test_a_slow_database_pauses_the_consumer(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, max_buffered_records=8, max_records=3))
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(40)))
    await quiet()
    assert fixture.consumer.paused == {Partition(topic, 0) for topic in (HELD, DEAD_LETTERS, ATTEMPTS)}
    fixture.recorder.away = False
    await until(lambda: fixture.committed(ATTEMPTS) == 40)
    assert len(fixture.recorder.attempts) == fixture.consumer.read == 40


async def test_the_consumer_resumes_when_a_partition_is_revoked(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, max_buffered_records=8))
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(1010)))
    await quiet()
    assert Partition(HELD, 0) in fixture.consumer.paused
    going = asyncio.create_task(fixture.consumer.revoke([Partition(ATTEMPTS, 0)]))
    await quiet()
    assert fixture.consumer.paused == set()
    fixture.recorder.away = False
    await going


async def test_buffered_records_are_left_to_the_next_owner(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, max_records=1))
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt(), attempt(event_id="evt_2"))
    await quiet()
    going = asyncio.create_task(fixture.consumer.revoke([Partition(ATTEMPTS, 0)]))
    await quiet()
    fixture.recorder.away = False
    await going
    await quiet()
    assert fixture.committed(ATTEMPTS) == len(fixture.recorder.attempts) == 1


async def test_a_revoked_partition_commits_what_is_stored(
    fixture: RecordFixture,
) -> None:
    fixture.consumer.responses.clear()
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: len(fixture.recorder.attempts) == 1)
    await asyncio.wait_for(fixture.consumer.revoke([Partition(ATTEMPTS, 0)]), 10)
    assert fixture.committed(ATTEMPTS) == 1
    assert fixture.telemetry.fields_of("partitions_assigned") == [{"count": 4}]
    assert fixture.telemetry.fields_of("partitions_revoked") == [{"count": 1}]


async def test_records_of_a_revoked_partition_are_not_stored(fixture: RecordFixture) -> None:
    """A rebalance may come between the reading of records and their handover."""
    late = fixture.kafka.append(Outgoing(ATTEMPTS, b"wh_crm", CODEC.encode(attempt())))
    await fixture.consumer.revoke([late.partition])
    fixture.consumer.hand_over([late])
    await quiet()
    assert fixture.recorder.attempts == {}


async def test_a_lost_partition_is_not_committed(
    fixture: RecordFixture,
) -> None:
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt())
    await quiet()
    await fixture.consumer.revoke([Partition(ATTEMPTS, 0)], is_lost=True)
    fixture.recorder.away = False
    await until(lambda: len(fixture.recorder.attempts) == 1)
    await quiet()
    assert fixture.committed(ATTEMPTS) == 0


async def test_the_next_commit_includes_a_failed_one(fixture: RecordFixture) -> None:
    fixture.consumer.away = True
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: len(fixture.recorder.attempts) == 1)
    await quiet()
    fixture.consumer.away = False
    fixture.add(HELD, delivery().to_held(HoldReason.PAUSED, "pause_1", is_attempted=False))
    await until(lambda: fixture.committed(HELD) == 1)
    assert fixture.committed(ATTEMPTS) == 1


async def test_a_refused_commit_needs_no_further_record(fixture: RecordFixture) -> None:
    fixture.consumer.away = True
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: fixture.telemetry.counts["commit_errors_total"] > 1)
    fixture.consumer.away = False
    await until(lambda: fixture.committed(ATTEMPTS) == 1)
    await until(lambda: fixture.telemetry.logged_count("commit_succeeded") == 1)


async def test_a_drain_stores_the_buffer(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, max_records=1, linger_seconds=60))
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt(event_id="evt_0"), attempt(event_id="evt_1"))
    fixture.add(DELIVERIES, delivery())
    await quiet()
    draining = asyncio.create_task(fixture.stage.drain(5))
    await quiet()
    fixture.add(ATTEMPTS, attempt(event_id="evt_2"))
    await quiet()
    fixture.recorder.away = False
    await draining
    assert fixture.committed(ATTEMPTS) == len(fixture.recorder.attempts) == 2
    assert fixture.committed(DELIVERIES) == len(fixture.recorder.bodies) == 1


async def test_a_drain_has_a_time_limit(fixture: RecordFixture) -> None:
    fixture.recorder.away = True
    fixture.add(ATTEMPTS, attempt())
    await quiet()
    with pytest.raises(TimeoutError):
        await fixture.stage.drain(0.01)


async def test_a_delivery_waits_for_its_attempt_and_is_stored_once(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, linger_seconds=60))
    fixture.add(DELIVERIES, delivery())
    await quiet()
    assert fixture.recorder.calls == 0
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: fixture.committed(ATTEMPTS) == 1)
    assert [state.state for state in fixture.recorder.delivery_states.values()] == [State.DELIVERED]
    assert fixture.committed(DELIVERIES) == 0


async def test_a_delivery_without_an_attempt_is_stored_soon(fixture: RecordFixture) -> None:
    await fixture.restart(replace(AT_ONCE, linger_seconds=0.05))
    fixture.add(DELIVERIES, delivery())
    await until(lambda: fixture.committed(DELIVERIES) == 1)
    assert [state.state for state in fixture.recorder.delivery_states.values()] == [State.WAITING]


async def test_an_unexpected_failure_ends_the_run(fixture: RecordFixture) -> None:
    def broken(batch: Batch) -> bool:
        raise RuntimeError("a bug")

    fixture.recorder.refuses = broken
    fixture.add(ATTEMPTS, attempt())
    with pytest.raises(RuntimeError, match="a bug"):
        await fixture.running
    assert fixture.committed(ATTEMPTS) == 0


async def test_an_outage_of_our_network_is_logged_once(fixture: RecordFixture) -> None:
    webhook_ids = [f"wh_{number}" for number in range(30)]
    for webhook_id in webhook_ids:
        fixture.recorder.webhooks.put(webhook(id=webhook_id))
    for second in range(6):
        at = NOON + timedelta(seconds=second)
        made = [
            attempt(
                webhook_id=webhook_id,
                event_id=f"evt_{second}",
                url=f"https://{webhook_id}.example.com",
                outcome=OutcomeKind.REFUSED,
                next_step=NextStep.TIER,
                tier="30s",
                started_at=at,
                ended_at=at,
            )
            for webhook_id in webhook_ids
        ]
        fixture.add(ATTEMPTS, *made)
        await quiet()
    live = [fixture.recorder.webhooks.live(webhook_id) for webhook_id in webhook_ids]
    assert {found.webhook.status for found in live if found} == {Status.ACTIVE}
    assert fixture.telemetry.logged_count("own_network_down") == 1
    assert fixture.telemetry.gauges["own_network_down"] == 1
    fixture.add(
        ATTEMPTS,
        *(
            attempt(webhook_id=webhook_id, event_id="evt_9", ended_at=NOON + timedelta(seconds=9))
            for webhook_id in webhook_ids
        ),
    )
    await quiet()
    assert fixture.telemetry.logged_count("own_network_up") == 1
    assert fixture.telemetry.gauges["own_network_down"] == 0


async def test_a_working_network_is_not_logged(fixture: RecordFixture) -> None:
    fixture.add(ATTEMPTS, attempt())
    await until(lambda: fixture.committed(ATTEMPTS) == 1)
    assert fixture.telemetry.logged_count("own_network_up") == 0
    assert fixture.telemetry.gauges["own_network_down"] == 0


async def test_two_bodies_of_an_event_in_one_batch_conflict(fixture: RecordFixture) -> None:
    other = delivery(webhook_id="wh_erp", body=delivery().body.replace(b"92", b"93"))
    fixture.add(DELIVERIES, delivery(), other)
    await until(lambda: fixture.committed(DELIVERIES) == 2)
    [invalid] = fixture.kafka.topic(INVALID)
    assert invalid.value == CODEC.encode(other)
    assert fixture.recorder.bodies == {("acme", event().id): delivery().body}


# -- newer releases ------------------------------------------------------------------------------------------------


async def test_a_partition_waits_at_the_record_of_a_newer_release(fixture: RecordFixture) -> None:
    fixture.add(ATTEMPTS, attempt(number=1))
    fixture.kafka.append(Outgoing(ATTEMPTS, b"wh_crm", NEWER_CODEC.encode(attempt(number=2))))
    fixture.add(ATTEMPTS, attempt(number=3))
    fixture.add(DELIVERIES, delivery())
    await until(lambda: fixture.committed(ATTEMPTS) == 1 and fixture.committed(DELIVERIES) == 1)
    fixture.add(ATTEMPTS, attempt(number=4))
    await quiet()
    assert [one.number for one in fixture.recorder.attempts.values()] == [1]
    assert (fixture.committed(ATTEMPTS), len(fixture.kafka.topic(INVALID))) == (1, 0)
    [problem] = fixture.stage.readiness_problems()
    assert "delivery-attempts 0: a newer release wrote the record at offset 1; upgrade this stage" in problem
    [line] = fixture.telemetry.fields_of("newer_record")
    assert (line["topic"], line["offset"]) == (ATTEMPTS, 1)
    assert "no schema of this release has the fingerprint" in str(line["why"])
    assert fixture.telemetry.gauges["partitions_of_newer_release"] == 1
    # What cannot be stored is not fetched either.
    assert fixture.consumer.paused == {Partition(ATTEMPTS, 0)}


async def test_the_next_release_goes_on_where_a_partition_waits(fixture: RecordFixture) -> None:
    fixture.add(ATTEMPTS, attempt(number=1))
    fixture.kafka.append(Outgoing(ATTEMPTS, b"wh_crm", NEWER_CODEC.encode(attempt(number=2))))
    fixture.add(ATTEMPTS, attempt(number=3))
    await until(lambda: bool(fixture.stage.readiness_problems()))
    fixture.running.cancel()
    await asyncio.gather(fixture.running, return_exceptions=True)
    assert fixture.stage.readiness_problems() == []
    fixture.start(NEWER_CODEC)
    await until(lambda: fixture.committed(ATTEMPTS) == 3)
    assert sorted(one.number for one in fixture.recorder.attempts.values()) == [1, 2, 3]
