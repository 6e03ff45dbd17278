"""What happened becomes visible once, whatever the database takes, refuses, or keeps waiting."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
import pytest_asyncio

from builders import NOON, attempt, dead_letter, delivery, event, webhook
from fakes import (
    FakeClock,
    FakeKafka,
    FakeRecordConsumer,
    FakeRecorder,
    FakeTelemetry,
    cancel_others,
    quiet,
    until,
)
from streams.adapters.avro.codec import AvroCodec
from streams.core.attempt import Attempt, NextStep
from streams.core.delivery import HoldReason, State
from streams.core.delivery_state import Batch, RecordedValue, fold
from streams.core.offset_tracker import Commit
from streams.core.outcome import OutcomeKind
from streams.core.webhook import Status
from streams.ports import Outgoing, Partition, RecordValue
from streams.stages import record as record_module
from streams.stages.consuming import write_buffer as write_buffer_module
from streams.stages.record import RecordStage
from streams.topics import ATTEMPTS, DEAD_LETTERS, DELIVERIES, HELD, INVALID

CODEC = AvroCodec()
TOPICS: dict[str, RecordValue] = {ATTEMPTS: attempt(), DELIVERIES: delivery(), DEAD_LETTERS: dead_letter()}


class OffsetTrackerMachine:
    """The stage on a log of one partition a topic, and the database behind it."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.kafka = FakeKafka(self.clock, partitions=1)
        self.recorder = FakeRecorder()
        self.recorder.webhooks.put(webhook())
        self.telemetry = FakeTelemetry()
        self.start()

    def start(self) -> None:
        self.consumer = FakeRecordConsumer(self.kafka, "record", [DELIVERIES, HELD, DEAD_LETTERS, ATTEMPTS])
        self.stage = RecordStage(self.consumer, CODEC, self.recorder, self.kafka, self.clock, self.telemetry)
        self.running = asyncio.create_task(self.stage.run())

    def add(self, topic: str, *values: RecordValue) -> None:
        for value in values:
            self.kafka.append(Outgoing(topic, b"wh_crm", CODEC.encode(value)))

    def committed(self, topic: str) -> int:
        return self.consumer.committed.get(Partition(topic, 0), Commit(0, "")).offset


@pytest_asyncio.fixture
async def it(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OffsetTrackerMachine]:
    monkeypatch.setattr(record_module, "RETRY_SECONDS", 0)
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0)
    yield OffsetTrackerMachine()
    await cancel_others()


async def test_a_delivery_its_attempts_and_its_body_become_visible(it: OffsetTrackerMachine) -> None:
    it.add(DELIVERIES, delivery())
    it.add(ATTEMPTS, attempt())
    await quiet()
    (state,) = it.recorder.delivery_states.values()
    assert (state.state, state.attempts) == (State.DELIVERED, 1)
    assert list(it.recorder.attempts) == [attempt().id]
    assert it.recorder.bodies == {("acme", event().id): delivery().body}


async def test_what_is_held_and_what_is_dead_becomes_visible(it: OffsetTrackerMachine) -> None:
    it.add(HELD, delivery(event_id="evt_1").held(HoldReason.PAUSED, "pause_1", attempted=False))
    it.add(DEAD_LETTERS, dead_letter(delivery=delivery(event_id="evt_2")))
    await quiet()
    states = {state.event_id: state.state for state in it.recorder.delivery_states.values()}
    assert states == {"evt_1": State.HELD, "evt_2": State.DEAD}


async def test_offsets_are_committed_after_the_transaction(it: OffsetTrackerMachine) -> None:
    it.recorder.away = True
    it.add(ATTEMPTS, attempt())
    await quiet()
    assert it.committed(ATTEMPTS) == 0
    it.recorder.away = False
    await until(lambda: it.committed(ATTEMPTS) == 1)
    assert it.recorder.attempts


async def test_a_database_that_is_away_is_waited_for_and_told_once(it: OffsetTrackerMachine) -> None:
    it.recorder.away = True
    it.add(ATTEMPTS, attempt())
    await until(lambda: it.recorder.calls > 5)
    assert it.telemetry.logged_count("database_unreachable") == 1
    it.recorder.away = False
    await until(lambda: len(it.recorder.attempts) == 1)
    await quiet()
    assert it.telemetry.logged_count("database_reachable") == 1


async def test_a_restart_from_the_last_commit_changes_nothing(it: OffsetTrackerMachine) -> None:
    it.add(ATTEMPTS, *(attempt(number=number, outcome=OutcomeKind.TIMEOUT) for number in (1, 2, 3)))
    await quiet()
    before = it.recorder.delivery_states.copy(), it.recorder.attempts.copy(), it.recorder.health.copy()
    await cancel_others()
    it.consumer.committed.clear()
    it.start()
    await until(lambda: it.committed(ATTEMPTS) == 3)
    assert (it.recorder.delivery_states, it.recorder.attempts, it.recorder.health) == before


async def test_what_lingers_when_the_process_dies_is_read_again(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 60)
    it.add(DELIVERIES, delivery())
    it.add(ATTEMPTS, attempt())
    await until(lambda: it.committed(ATTEMPTS) == 1)
    assert it.recorder.bodies == {}
    await cancel_others()
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0)
    it.start()
    await until(lambda: it.committed(DELIVERIES) == 1)
    assert len(it.recorder.bodies) == 1
    assert [state.state for state in it.recorder.delivery_states.values()] == [State.DELIVERED]


# -- poison --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", list(TOPICS))
@pytest.mark.parametrize("poison", [b"\xff\x00 junk", None, b"", CODEC.encode(webhook())])
async def test_an_invalid_record_is_stored_and_stops_nothing(
    it: OffsetTrackerMachine, topic: str, poison: bytes | None
) -> None:
    it.kafka.append(Outgoing(topic, b"wh_crm", poison, [("trace", b"1")]))
    it.add(topic, TOPICS[topic])
    await until(lambda: it.committed(topic) == 2)
    (to_invalid_record,) = it.kafka.topic(INVALID)
    assert (to_invalid_record.key, to_invalid_record.value, to_invalid_record.headers[0]) == (
        b"wh_crm",
        poison,
        ("trace", b"1"),
    )
    headers = dict(to_invalid_record.headers)
    assert headers["origin-topic"] == topic.encode()
    assert headers["origin-offset"] == b"0"
    assert headers["error"]
    assert len(it.recorder.delivery_states) == 1


async def test_a_refused_row_is_stored_without_details(it: OffsetTrackerMachine) -> None:
    def has_zero(batch: Batch) -> bool:
        return any(b"\0" in attempt.response_body for attempt in batch.attempts)

    it.recorder.refuses = has_zero
    made = [attempt(event_id=f"evt_{number}") for number in range(9)]
    made[5] = attempt(event_id="evt_5", response_body=b"a\0b")
    it.add(ATTEMPTS, *made)
    await until(lambda: it.committed(ATTEMPTS) == 9)
    kept = {attempt.event_id: attempt.response_body for attempt in it.recorder.attempts.values()}
    assert kept == {f"evt_{number}": b"" if number == 5 else b"thanks" for number in range(9)}
    assert it.telemetry.counts["records_refused_total"] == 1
    assert it.telemetry.counts["records_stored_total"] == 8


async def test_a_row_that_is_refused_even_stripped_stops_nobody(it: OffsetTrackerMachine) -> None:
    it.recorder.refuses = lambda batch: any(attempt.event_id == "evt_1" for attempt in batch.attempts)
    it.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(3)))
    await until(lambda: it.committed(ATTEMPTS) == 3)
    assert {attempt.event_id for attempt in it.recorder.attempts.values()} == {"evt_0", "evt_2"}
    (kept,) = it.kafka.topic(INVALID)
    assert kept.value == CODEC.encode(attempt(event_id="evt_1"))
    assert b"cannot be stored" in dict(kept.headers)["error"]


async def test_a_fact_that_our_own_code_fails_at_is_parked_alone(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(entries: Sequence[RecordedValue]) -> Batch:
        if any(entry.value.event_id == "evt_1" for entry in entries if isinstance(entry.value, Attempt)):
            raise ZeroDivisionError("a defect")
        return fold(entries)

    monkeypatch.setattr(record_module, "fold", broken)
    it.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(3)))
    await until(lambda: it.committed(ATTEMPTS) == 3)
    assert {attempt.event_id for attempt in it.recorder.attempts.values()} == {"evt_0", "evt_2"}
    (kept,) = it.kafka.topic(INVALID)
    assert b"ZeroDivisionError: a defect" in dict(kept.headers)["error"]


async def test_a_crash_before_invalid_records_are_stored_repeats_them(it: OffsetTrackerMachine) -> None:
    it.kafka.append(Outgoing(ATTEMPTS, b"wh_crm", b"junk"))
    it.add(ATTEMPTS, attempt())
    it.kafka.die_in(1)
    await until(lambda: it.kafka.is_dead)
    assert len(it.recorder.attempts) == 1
    assert it.committed(ATTEMPTS) == 0
    await cancel_others()
    it.kafka.revive()
    it.start()
    await until(lambda: it.committed(ATTEMPTS) == 2)
    assert [record.value for record in it.kafka.topic(INVALID)] == [b"junk"]
    assert len(it.recorder.attempts) == 1


# -- room, and the end ---------------------------------------------------------------------------------------


async def test_a_slow_database_stops_the_feed_and_nothing_is_lost(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "HIGH_WATER", 8)
    monkeypatch.setattr(record_module, "BATCH_RECORDS", 3)
    it.recorder.away = True
    it.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(40)))
    await quiet()
    assert it.consumer.paused == {Partition(topic, 0) for topic in (HELD, DEAD_LETTERS, ATTEMPTS)}
    it.recorder.away = False
    await until(lambda: it.committed(ATTEMPTS) == 40)
    assert len(it.recorder.attempts) == it.consumer.read == 40


async def test_the_feed_goes_on_when_what_filled_the_room_has_gone(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "HIGH_WATER", 8)
    it.recorder.away = True
    it.add(ATTEMPTS, *(attempt(event_id=f"evt_{number}") for number in range(1010)))
    await quiet()
    assert Partition(HELD, 0) in it.consumer.paused
    going = asyncio.create_task(it.consumer.revoke([Partition(ATTEMPTS, 0)]))
    await quiet()
    assert it.consumer.paused == set()
    it.recorder.away = False
    await going


async def test_buffered_records_are_left_to_the_next_owner(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_module, "BATCH_RECORDS", 1)
    it.recorder.away = True
    it.add(ATTEMPTS, attempt(), attempt(event_id="evt_2"))
    await quiet()
    going = asyncio.create_task(it.consumer.revoke([Partition(ATTEMPTS, 0)]))
    await quiet()
    it.recorder.away = False
    await going
    await quiet()
    assert it.committed(ATTEMPTS) == len(it.recorder.attempts) == 1


async def test_a_revoked_partition_commits_what_is_stored(
    it: OffsetTrackerMachine,
) -> None:
    it.consumer.responses.clear()
    it.add(ATTEMPTS, attempt())
    await until(lambda: len(it.recorder.attempts) == 1)
    await asyncio.wait_for(it.consumer.revoke([Partition(ATTEMPTS, 0)]), 10)
    assert it.committed(ATTEMPTS) == 1


async def test_a_lost_partition_is_not_committed(
    it: OffsetTrackerMachine,
) -> None:
    it.recorder.away = True
    it.add(ATTEMPTS, attempt())
    await quiet()
    await it.consumer.revoke([Partition(ATTEMPTS, 0)], lost=True)
    it.recorder.away = False
    await until(lambda: len(it.recorder.attempts) == 1)
    await quiet()
    assert it.committed(ATTEMPTS) == 0


async def test_the_next_commit_includes_a_failed_one(it: OffsetTrackerMachine) -> None:
    it.consumer.away = True
    it.add(ATTEMPTS, attempt())
    await until(lambda: len(it.recorder.attempts) == 1)
    await quiet()
    it.consumer.away = False
    it.add(HELD, delivery().held(HoldReason.PAUSED, "pause_1", attempted=False))
    await until(lambda: it.committed(HELD) == 1)
    assert it.committed(ATTEMPTS) == 1


async def test_a_drain_stores_what_arrived(it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "BATCH_RECORDS", 1)
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 60)
    it.recorder.away = True
    it.add(ATTEMPTS, attempt(event_id="evt_0"), attempt(event_id="evt_1"))
    it.add(DELIVERIES, delivery())
    await quiet()
    draining = asyncio.create_task(it.stage.drain(5))
    await quiet()
    it.add(ATTEMPTS, attempt(event_id="evt_2"))
    await quiet()
    it.recorder.away = False
    await draining
    assert it.committed(ATTEMPTS) == len(it.recorder.attempts) == 2
    assert it.committed(DELIVERIES) == len(it.recorder.bodies) == 1


async def test_a_drain_that_takes_too_long_is_given_up(it: OffsetTrackerMachine) -> None:
    it.recorder.away = True
    it.add(ATTEMPTS, attempt())
    await quiet()
    with pytest.raises(TimeoutError):
        await it.stage.drain(0.01)


async def test_a_delivery_lingers_for_its_attempt_and_is_stored_once(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 60)
    it.add(DELIVERIES, delivery())
    await quiet()
    assert it.recorder.calls == 0
    it.add(ATTEMPTS, attempt())
    await until(lambda: it.committed(ATTEMPTS) == 1)
    assert [state.state for state in it.recorder.delivery_states.values()] == [State.DELIVERED]
    assert it.committed(DELIVERIES) == 0


async def test_a_delivery_without_an_attempt_is_stored_soon(
    it: OffsetTrackerMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0.05)
    it.add(DELIVERIES, delivery())
    await until(lambda: it.committed(DELIVERIES) == 1)
    assert [state.state for state in it.recorder.delivery_states.values()] == [State.WAITING]


async def test_an_unexpected_failure_ends_the_run(it: OffsetTrackerMachine) -> None:
    def broken(batch: Batch) -> bool:
        raise RuntimeError("a bug")

    it.recorder.refuses = broken
    it.add(ATTEMPTS, attempt())
    with pytest.raises(RuntimeError, match="a bug"):
        await it.running
    assert it.committed(ATTEMPTS) == 0


async def test_a_dead_network_of_ours_is_told_once_and_pauses_nobody(it: OffsetTrackerMachine) -> None:
    hooks = [f"wh_{number}" for number in range(30)]
    for hook in hooks:
        it.recorder.webhooks.put(webhook(id=hook))
    for second in range(6):
        at = NOON + timedelta(seconds=second)
        made = [
            attempt(
                webhook_id=hook,
                event_id=f"evt_{second}",
                url=f"https://{hook}.example.com",
                outcome=OutcomeKind.REFUSED,
                next_step=NextStep.TIER,
                tier="30s",
                started_at=at,
                ended_at=at,
            )
            for hook in hooks
        ]
        it.add(ATTEMPTS, *made)
        await quiet()
    live = [it.recorder.webhooks.live(hook) for hook in hooks]
    assert {found.webhook.status for found in live if found} == {Status.ACTIVE}
    assert it.telemetry.logged_count("own_network_down") == 1
    assert it.telemetry.gauges["own_network_down"] == 1
    it.add(
        ATTEMPTS, *(attempt(webhook_id=hook, event_id="evt_9", ended_at=NOON + timedelta(seconds=9)) for hook in hooks)
    )
    await quiet()
    assert it.telemetry.logged_count("own_network_up") == 1
    assert it.telemetry.gauges["own_network_down"] == 0
