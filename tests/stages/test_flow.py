"""Tests, replays, fallback endpoints and slow ones, on the path in memory."""

import asyncio

import pytest

from builders import delivery, event, paused, webhook
from fakes import FakeDeliveryLog, FakeJobs, cancel_others, quiet
from stages.path import BACKUP, BROKEN, CODEC, SCHEDULE, URL, Path
from streams.core.account import DeliveryFilter
from streams.core.delivery import Delivery, State, Trigger
from streams.core.endpoint_queue import SLOW_SECONDS
from streams.core.errors import Invalid, NotFound, Unavailable
from streams.core.health import FALLBACK_FAILURES_TO_REST, FALLBACK_REST_SECONDS
from streams.core.held import HeldChoice
from streams.core.outcome import Response
from streams.core.request import Request
from streams.core.webhook import PauseReason
from streams.ports import Outgoing
from streams.services import deliveries as deliveries_module
from streams.services import synthetic_events as synthetic_events_module
from streams.services.deliveries import DeliveryService
from streams.services.synthetic_events import SyntheticEventService
from streams.stages.consuming import write_buffer as write_buffer_module
from streams.topics import DEAD_LETTERS, DELIVERIES, TEST_DELIVERIES, retry_topic

# -- tests (R5) ------------------------------------------------------------------------------------------------


def a_test(**changes: object) -> Delivery:
    return delivery(trigger=Trigger.TEST)._replace(**changes)  # type: ignore[arg-type]


def synthetic_events(path: Path) -> SyntheticEventService:
    ids = (f"evt_test_{number}" for number in range(100))
    kafka = FakeDeliveryLog(path.recorder)
    return SyntheticEventService(path.outbox, kafka, path.kafka, CODEC, path.clock, lambda prefix: next(ids))


@pytest.mark.parametrize("registered", [webhook(), paused()], ids=["active", "paused"])
async def test_a_test_is_sent_in_any_status_and_shows_its_response(path: Path, registered: object) -> None:
    await path.register(registered)  # type: ignore[arg-type]
    path.sender.responses(URL, Response(202, {"server": "theirs"}, b"thanks"))
    seen = await synthetic_events(path).send("wh_crm", "session.scored")
    assert seen.delivery_state.state is State.DELIVERED
    [attempt] = seen.attempts
    assert (attempt.status, attempt.response_body, dict(attempt.response_headers)) == (
        202,
        b"thanks",
        {"server": "theirs"},
    )
    [request] = path.sender.requests
    assert b'"test":true' in request.body
    assert request.body == seen.body


async def test_a_test_that_fails_is_not_retried_and_counts_for_nothing(path: Path) -> None:
    await path.register(webhook(fallback_url=BACKUP))
    path.sender.responses(URL, BROKEN)
    tests = synthetic_events(path)
    for _ in range(6):
        seen = await tests.send("wh_crm", "session.completed")
        assert (seen.delivery_state.state, seen.attempts[0].status) == (State.DISCARDED, 500)
    await path.wait_out(SCHEDULE.tiers[-1])
    assert len(path.sender.requests) == 6
    assert path.kafka.topic(DEAD_LETTERS) == []
    assert path.recorder.health["wh_crm"].failures == 0


async def test_a_test_that_is_too_old_is_not_sent_and_says_so(path: Path) -> None:
    await path.register(webhook())
    await cancel_others()
    path.kafka.append(Outgoing(TEST_DELIVERIES, b"wh_crm", CODEC.encode(a_test())))
    path.clock.advance(13)
    await path.crash()
    await quiet()
    assert path.sender.requests == []
    assert (path.delivery_state().state, path.delivery_state().reason) == (State.DISCARDED, "expired")
    assert path.telemetry.counts["tests_expired_total"] == 1
    assert path.telemetry.counts["dead_letters_total"] == 0


async def test_a_test_of_a_deleted_webhook_is_discarded(path: Path) -> None:
    await path.register(webhook())
    await path.remove("wh_crm")
    await path.put(TEST_DELIVERIES, a_test())
    assert (path.delivery_state().state, path.delivery_state().reason) == (State.DISCARDED, "deleted")


async def test_without_deliver_the_wait_for_a_test_ends_in_words(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_events_module, "WAIT_SECONDS", 0.05)
    await path.register(webhook())
    for task in path.running:
        task.cancel()
    with pytest.raises(Unavailable, match=r"are `deliver` and `record` running\?"):
        await synthetic_events(path).send("wh_crm", "session.completed")
    await path.crash()


async def test_bad_tests_are_refused(path: Path) -> None:
    await path.register(webhook())
    with pytest.raises(Invalid, match="type: must be one of"):
        await synthetic_events(path).send("wh_crm", "session.started")
    with pytest.raises(NotFound):
        await synthetic_events(path).send("wh_other", "session.completed")


# -- what people send again ------------------------------------------------------------------------------------


def deliveries(path: Path) -> DeliveryService:
    return DeliveryService(
        FakeDeliveryLog(path.recorder), path.replays, FakeJobs(path.replays, path.clock), path.clock, str
    )


async def test_a_replay_supersedes_what_waits_in_a_tier(path: Path) -> None:
    await path.register(webhook())
    path.sender.responses(URL, BROKEN, Response(200, {}))
    await path.happen(event())
    assert path.delivery_state().state is State.WAITING
    await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")
    await path.drain.cycle()
    await quiet()
    assert path.delivery_state().state is State.DELIVERED
    await path.wait_out(SCHEDULE.tiers[0])
    assert len(path.sender.requests) == 2
    assert path.telemetry.counts["retries_superseded_total"] == 1


async def test_a_retry_waits_for_a_payload_that_is_not_recorded_yet(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 0.2)
    await path.register(webhook())
    path.sender.responses(URL, BROKEN, Response(200, {}))
    await path.happen(event())
    assert path.recorder.bodies == {}
    retried = await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")
    assert (retried.state, retried.generation) == (State.HELD, 2)


async def test_a_payload_that_does_not_come_is_not_waited_for_for_ever(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write_buffer_module, "LINGER_SECONDS", 60)
    monkeypatch.setattr(deliveries_module, "ASK_EVERY_SECONDS", 0)
    await path.register(webhook())
    await path.happen(event())
    with pytest.raises(Invalid, match="its payload is not kept"):
        await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")


async def test_without_a_database_a_retry_is_sent(path: Path) -> None:
    await path.register(webhook())
    path.sender.responses(URL, BROKEN, Response(200, {}))
    await path.happen(event())
    path.recorder.away = True
    await path.wait_out(SCHEDULE.tiers[0])
    assert len(path.sender.requests) == 2


async def test_a_replay_has_a_fresh_schedule_and_never_pauses(path: Path) -> None:
    await path.register(webhook())
    await path.happen(event())
    path.sender.responses(URL, BROKEN)
    await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")
    await path.drain.cycle()
    for tier in SCHEDULE.tiers:
        await path.wait_out(tier)
    assert (path.delivery_state().state, path.delivery_state().reason) == (State.DEAD, "exhausted")
    assert path.delivery_state().attempts == SCHEDULE.attempts
    assert path.recorder.health["wh_crm"].failures == 0


async def test_why_something_cannot_be_sent_again_is_said(path: Path) -> None:
    await path.register(paused())
    await path.happen(event())
    with pytest.raises(Invalid, match="is held and is sent without a replay: The webhook is paused"):
        await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")
    with pytest.raises(NotFound):
        await deliveries(path).retry("unknown", by="ada")
    await path.remove("wh_crm")
    await path.drain.cycle()
    await quiet()
    assert path.delivery_state().state is State.DEAD
    with pytest.raises(Invalid, match="its webhook was deleted"):
        await deliveries(path).retry(path.delivery_state().delivery_id, by="ada")


async def test_matching_dead_letters_are_handled_in_portions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliveries_module, "AT_ONCE", 2)
    await path.register(paused(), webhook(id="wh_gone"))
    await path.happen(*(event(id=f"evt_{number}") for number in range(5)))
    await path.enable(HeldChoice.KEEP)
    await path.drain.cycle()
    await quiet()
    told: list[int] = []
    assert len(await deliveries(path).retry_dead(DeliveryFilter(webhook_id="wh_gone"), told.append, by="ada")) == 0
    assert len(await deliveries(path).discard_dead(DeliveryFilter(ids=["unknown"]), told.append, by="ada")) == 0
    assert len(await deliveries(path).retry_dead(DeliveryFilter(event_id="evt_0"), told.append, by="ada")) == 1
    assert len(await deliveries(path).discard_dead(DeliveryFilter(webhook_id="wh_crm"), told.append, by="ada")) == 4
    assert told == [1, 2, 2]


# -- the fallback URL (R9) -------------------------------------------------------------------------------------


async def test_a_failing_fallback_rests_for_ten_minutes(path: Path) -> None:
    path.sender.responses(BACKUP, BROKEN)
    await path.register(paused(PauseReason.FAILURES, fallback_url=BACKUP))
    for number in range(FALLBACK_FAILURES_TO_REST):
        await path.happen(event(id=f"evt_{number}"))
    assert len(path.sender.to(BACKUP)) == FALLBACK_FAILURES_TO_REST
    await path.happen(event(id="evt_skipped"))
    assert len(path.sender.to(BACKUP)) == FALLBACK_FAILURES_TO_REST
    [skipped] = [s for s in path.recorder.delivery_states.values() if s.event_id == "evt_skipped"]
    assert (skipped.state, skipped.reason, skipped.attempts) == (State.HELD, "paused", 0)

    path.sender.responses(BACKUP, Response(200, {}))
    await path.wait(FALLBACK_REST_SECONDS)
    await path.happen(event(id="evt_later"))
    assert "evt_later" in {request.headers["webhook-id"] for request in path.sender.to(BACKUP)}


# -- slow endpoints --------------------------------------------------------------------------------------------


async def test_a_hanging_endpoint_delays_nobody_else(path: Path) -> None:
    gate = asyncio.Event()

    async def hang(request: Request) -> Response:
        await gate.wait()
        return Response(200, {})

    path.sender.put(URL, hang)
    await path.register(webhook(), webhook(id="wh_other", url=BACKUP))
    await path.happen(*(event(id=f"evt_{number}") for number in range(20)))
    # As soon as it is seen to be slow, its slots are the suspects' and no longer the newcomers'.
    path.clock.advance(SLOW_SECONDS + 0.1)
    path.slots.maintain()
    await quiet()
    assert len(path.sender.to(BACKUP)) == 20
    path.clock.advance(9)
    path.slots.maintain()
    await quiet()
    assert {s.reason for s in path.recorder.of("wh_crm") if s.state is State.HELD} == {"busy"}
    gate.set()
    await quiet()
    for _ in range(10):
        path.clock.advance(31)
        await path.drain.cycle()
        await quiet()
    assert {s.state for s in path.recorder.delivery_states.values()} == {State.DELIVERED}
    assert set(path.sent().values()) == {2}


async def test_a_held_retry_keeps_its_tier(path: Path) -> None:
    path.sender.responses(URL, BROKEN)
    await path.register(webhook())
    await path.happen(event())
    await path.register(paused())
    await path.wait_out(SCHEDULE.tiers[0])
    assert path.delivery_state().state is State.HELD
    await path.register(webhook())
    await path.drain.cycle()
    await quiet()
    assert [one.attempt for one in path.deliveries(retry_topic(SCHEDULE.tiers[1]))] == [3]


async def test_a_wait_for_a_slot_ends_with_its_partition(path: Path) -> None:
    gate = asyncio.Event()

    async def response(request: Request) -> Response:
        await gate.wait()
        return Response(200, {})

    path.sender.put(URL, response)
    await path.register(webhook(max_concurrency=1))
    await path.happen(*(event(id=f"evt_{number}") for number in range(3)))
    partitions = path.kafka.partitions(DELIVERIES)
    going = asyncio.ensure_future(path.consumer.revoke(partitions))
    await quiet()
    gate.set()
    await going
    await quiet()
    assert len(path.sender.requests) == 1
    path.consumer.assign(partitions)
    await quiet()
    assert path.sent() == {"evt_0": 1, "evt_1": 1, "evt_2": 1}
