"""Tests, replays, fallback URLs and slow endpoints, on the path in memory."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from builders import delivery, event, paused, webhook
from fakes import FakeDeliveryStore, FakeJobs, cancel_others, quiet
from stages.pipeline import BACKUP, BROKEN, CODEC, SCHEDULE, URL, Pipeline
from streams.core.accounts.account import DeliveryDetails, DeliveryFilter
from streams.core.deliveries.delivery import Delivery, State, Trigger
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import Request
from streams.core.errors import Conflict, Invalid, NotFound, Unavailable
from streams.core.queues.endpoint_queue import SLOW_SECONDS
from streams.core.queues.slot_request import SlotRequest
from streams.core.webhooks.health import FALLBACK_FAILURES_TO_REST, FALLBACK_REST_SECONDS
from streams.core.webhooks.webhook import PauseReason
from streams.features.deliveries.service import AffectedIds, DeliveryService
from streams.features.webhooks.synthetic_events import SyntheticEventService
from streams.ports.kafka import Outgoing
from streams.stages.consuming.batch_consumer import Batching
from streams.stages.limiting.slot_limiter import AcquiredSlot
from streams.topics import DEAD_LETTERS, DELIVERIES, TEST_DELIVERIES, retry_topic

# -- test events -----------------------------------------------------------------------------------------------


def delivery_of_a_test(**changes: object) -> Delivery:
    return delivery(trigger=Trigger.TEST)._replace(**changes)  # type: ignore[arg-type]


def synthetic_events(pipeline: Pipeline, wait_seconds: float = 25) -> SyntheticEventService:
    kafka = FakeDeliveryStore(pipeline.recorder)
    return SyntheticEventService(pipeline.outbox, kafka, pipeline.kafka, CODEC, pipeline.clock, wait_seconds)


@pytest.mark.parametrize("registered", [webhook(), paused()], ids=["active", "paused"])
async def test_a_test_is_sent_in_any_status_and_shows_its_response(pipeline: Pipeline, registered: object) -> None:
    await pipeline.register(registered)  # type: ignore[arg-type]
    pipeline.sender.responses(URL, Response(202, {"server": "theirs"}, b"thanks"))
    seen = await synthetic_events(pipeline).send("wh_crm", "session.scored")
    assert seen.delivery_state.state is State.DELIVERED
    [attempt] = seen.attempts
    assert (attempt.status, attempt.response_body, dict(attempt.response_headers)) == (
        202,
        b"thanks",
        {"server": "theirs"},
    )
    [request] = pipeline.sender.requests
    assert b'"test":true' in request.body
    assert request.body == seen.body


async def test_a_failed_test_is_not_retried_and_does_not_count(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(fallback_url=BACKUP))
    pipeline.sender.responses(URL, BROKEN)
    tests = synthetic_events(pipeline)
    for _ in range(6):
        seen = await tests.send("wh_crm", "session.completed")
        assert (seen.delivery_state.state, seen.attempts[0].status) == (State.FAILED, 500)
    await pipeline.wait_for_tier(SCHEDULE.tiers[-1])
    assert len(pipeline.sender.requests) == 6
    assert pipeline.kafka.topic(DEAD_LETTERS) == []
    assert pipeline.recorder.health["wh_crm"].failures == 0


@pytest.mark.parametrize(
    ("wanted", "sent"),
    [
        ((), "session.completed"),
        (("session.launched", "session.completed"), "session.completed"),
        (("usage.threshold", "package.updated"), "package.updated"),
    ],
)
async def test_a_test_has_a_type_that_the_webhook_wants(pipeline: Pipeline, wanted: tuple[str, ...], sent: str) -> None:
    await pipeline.register(webhook(event_types=frozenset(wanted)))
    seen = await synthetic_events(pipeline).send("wh_crm")
    assert seen.delivery_state.event_type == sent


async def test_an_expired_test_is_not_sent_and_says_so(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await cancel_others()
    pipeline.kafka.append(Outgoing(TEST_DELIVERIES, b"wh_crm", CODEC.encode(delivery_of_a_test())))
    pipeline.clock.advance(13)
    await pipeline.crash()
    await quiet()
    assert pipeline.sender.requests == []
    assert (pipeline.delivery_state().state, pipeline.delivery_state().reason) == (State.FAILED, "expired")
    assert pipeline.telemetry.counts["tests_expired_total"] == 1
    assert pipeline.telemetry.counts["dead_letters_total"] == 0


async def test_a_test_of_a_deleted_webhook_has_failed(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.remove("wh_crm")
    await pipeline.put(TEST_DELIVERIES, delivery_of_a_test())
    assert (pipeline.delivery_state().state, pipeline.delivery_state().reason) == (State.FAILED, "deleted")


async def test_without_record_a_test_ends_with_its_name(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    for task in pipeline.running:
        task.cancel()
    with pytest.raises(Unavailable, match=r"`record` has not stored it within 0\.05 seconds: is `record` running\?"):
        await synthetic_events(pipeline, wait_seconds=0.05).send("wh_crm", "session.completed")
    await pipeline.crash()


async def test_without_deliver_a_test_ends_with_its_name(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.sender.hangs(URL)
    with pytest.raises(Unavailable, match=r"no outcome from `deliver` within 0\.2 seconds: is `deliver` running\?"):
        await synthetic_events(pipeline, wait_seconds=0.2).send("wh_crm", "session.completed")
    await pipeline.crash()


async def send_tests(tests: SyntheticEventService, *webhook_ids: str) -> list[asyncio.Task[DeliveryDetails]]:
    """Send tests, and return when each waits for its outcome or is refused."""
    sent = [asyncio.create_task(tests.send(webhook_id)) for webhook_id in webhook_ids]
    await quiet()
    return sent


async def register_twelve(pipeline: Pipeline) -> list[str]:
    """Webhooks of one account, whose endpoint hangs. Returns their ids."""
    pipeline.sender.hangs(URL)
    names = [f"wh_{number}" for number in range(12)]
    for name in names:
        await pipeline.register(webhook(id=name))
    await pipeline.register(webhook(id="wh_other", account_id="globex"))
    return names


async def test_two_tests_of_a_webhook_wait_at_most(pipeline: Pipeline) -> None:
    await register_twelve(pipeline)
    tests = synthetic_events(pipeline)
    *waiting, third, other = await send_tests(tests, "wh_1", "wh_1", "wh_1", "wh_2")
    with pytest.raises(Conflict, match=r"this webhook already has 2 tests in progress: wait for one"):
        await asyncio.wait_for(third, 1)
    assert not any(task.done() for task in (*waiting, other))
    waiting[0].cancel()
    [again] = await send_tests(tests, "wh_1")
    assert not again.done()
    await pipeline.crash()


async def test_ten_tests_of_an_account_wait_at_most(pipeline: Pipeline) -> None:
    names = await register_twelve(pipeline)
    *waiting, eleventh, other = await send_tests(synthetic_events(pipeline), *names[:11], "wh_other")
    with pytest.raises(Conflict, match="this account already has 10 tests in progress"):
        await asyncio.wait_for(eleventh, 1)
    assert not any(task.done() for task in (*waiting, other))
    await pipeline.crash()


async def test_one_query_asks_for_all_tests_that_wait(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await register_twelve(pipeline)
    asked = list[object]()

    def note(name: str) -> None:
        ask = getattr(FakeDeliveryStore, name, None)

        async def noted(log: FakeDeliveryStore, wanted: object) -> object:
            asked.append(wanted)
            return await ask(log, wanted)  # type: ignore[misc]

        monkeypatch.setattr(FakeDeliveryStore, name, noted, raising=False)

    note("find")
    note("with_outcome")
    await send_tests(synthetic_events(pipeline), *names[:10])
    assert len(asked) == 1
    await pipeline.crash()


async def test_a_test_that_kafka_does_not_take_says_so(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.kafka.leave()
    with pytest.raises(Unavailable, match=r"Kafka did not accept the test within 0\.05 seconds\. It may still be sent"):
        await replace(synthetic_events(pipeline), produce_timeout_seconds=0.05).send("wh_crm", "session.completed")
    pipeline.kafka.come_back()


async def test_invalid_test_requests_are_refused(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    with pytest.raises(Invalid, match="type: must be one of"):
        await synthetic_events(pipeline).send("wh_crm", "session.started")
    with pytest.raises(NotFound):
        await synthetic_events(pipeline).send("wh_other", "session.completed")


# -- replays --------------------------------------------------------------------------------------------------


def deliveries(pipeline: Pipeline) -> DeliveryService:
    return DeliveryService(
        FakeDeliveryStore(pipeline.recorder),
        pipeline.replays,
        FakeJobs(pipeline.replays),
        pipeline.clock,
    )


async def test_a_replay_supersedes_a_waiting_retry(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.sender.responses(URL, BROKEN, Response(200, {}))
    await pipeline.fan_out_events(event())
    assert pipeline.delivery_state().state is State.WAITING
    await deliveries(pipeline).retry(pipeline.delivery_state().delivery_id, actor="ada")
    await pipeline.release_held.cycle()
    await quiet()
    assert pipeline.delivery_state().state is State.DELIVERED
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    assert len(pipeline.sender.requests) == 2
    assert pipeline.telemetry.counts["retries_superseded_total"] == 1


async def test_a_retry_waits_for_a_payload_not_yet_recorded(pipeline: Pipeline) -> None:
    await pipeline.crash(Batching(min_interval_seconds=0, linger_seconds=0.2))
    await pipeline.register(webhook())
    pipeline.sender.responses(URL, BROKEN, Response(200, {}))
    await pipeline.fan_out_events(event())
    assert pipeline.recorder.bodies == {}
    retried = await deliveries(pipeline).retry(pipeline.delivery_state().delivery_id, actor="ada")
    assert (retried.state, retried.generation) == (State.HELD, 2)


async def test_a_retry_waits_a_limited_time_for_a_payload(pipeline: Pipeline) -> None:
    await pipeline.crash(Batching(min_interval_seconds=0, linger_seconds=60))
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    service = replace(deliveries(pipeline), payload_check_interval_seconds=0)
    with pytest.raises(Invalid, match="its payload is not kept"):
        await service.retry(pipeline.delivery_state().delivery_id, actor="ada")


async def test_without_a_database_a_retry_is_sent(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    pipeline.sender.responses(URL, BROKEN, Response(200, {}))
    await pipeline.fan_out_events(event())
    pipeline.recorder.away = True
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    assert len(pipeline.sender.requests) == 2


async def test_a_replay_has_a_fresh_schedule_and_never_pauses(pipeline: Pipeline) -> None:
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    pipeline.sender.responses(URL, BROKEN)
    await deliveries(pipeline).retry(pipeline.delivery_state().delivery_id, actor="ada")
    await pipeline.release_held.cycle()
    for tier in SCHEDULE.tiers:
        await pipeline.wait_for_tier(tier)
    assert (pipeline.delivery_state().state, pipeline.delivery_state().reason) == (State.DEAD, "exhausted")
    assert pipeline.delivery_state().attempts == SCHEDULE.attempts
    assert pipeline.recorder.health["wh_crm"].failures == 0


async def test_a_refused_replay_says_why(pipeline: Pipeline) -> None:
    await pipeline.register(paused())
    await pipeline.fan_out_events(event())
    with pytest.raises(Invalid, match="is held and is sent without a replay: The webhook is paused"):
        await deliveries(pipeline).retry(pipeline.delivery_state().delivery_id, actor="ada")
    with pytest.raises(NotFound):
        await deliveries(pipeline).retry("unknown", actor="ada")
    await pipeline.remove("wh_crm")
    await pipeline.release_held.cycle()
    await quiet()
    assert pipeline.delivery_state().state is State.DEAD
    with pytest.raises(Invalid, match="its webhook was deleted"):
        await deliveries(pipeline).retry(pipeline.delivery_state().delivery_id, actor="ada")


async def test_named_dead_letters_are_sent_again_or_discarded(pipeline: Pipeline) -> None:
    await pipeline.register(paused())
    await pipeline.fan_out_events(*(event(id=f"evt_{number}") for number in range(3)))
    await pipeline.enable(HeldChoice.KEEP)
    await pipeline.release_held.cycle()
    await quiet()
    first, second, third = [row.delivery_id for row in (await deliveries(pipeline).list(DeliveryFilter())).rows]
    service = deliveries(pipeline)
    retried = await service.retry_dead_letters([first, "unknown"], None, actor="ada")
    assert retried == AffectedIds((first,), ("unknown",))
    # The first one is not a dead letter any more.
    discarded = await service.discard_dead_letters([first, second, third], None, actor="ada")
    assert (set(discarded.ids), discarded.unknown) == ({second, third}, ())
    assert await service.discard_dead_letters([second], "another account", actor="ada") == AffectedIds((), (second,))


# -- the fallback URL -------------------------------------------------------------------------------------


async def test_a_failing_fallback_is_skipped_for_ten_minutes(pipeline: Pipeline) -> None:
    pipeline.sender.responses(BACKUP, BROKEN)
    await pipeline.register(paused(PauseReason.FAILURES, fallback_url=BACKUP))
    for number in range(FALLBACK_FAILURES_TO_REST):
        await pipeline.fan_out_events(event(id=f"evt_{number}"))
    assert len(pipeline.sender.to(BACKUP)) == FALLBACK_FAILURES_TO_REST
    await pipeline.fan_out_events(event(id="evt_skipped"))
    assert len(pipeline.sender.to(BACKUP)) == FALLBACK_FAILURES_TO_REST
    [skipped] = [s for s in pipeline.recorder.delivery_states.values() if s.event_id == "evt_skipped"]
    assert (skipped.state, skipped.reason, skipped.attempts) == (State.HELD, "paused", 0)

    pipeline.sender.responses(BACKUP, Response(200, {}))
    await pipeline.wait(FALLBACK_REST_SECONDS)
    await pipeline.fan_out_events(event(id="evt_later"))
    assert "evt_later" in {request.headers["webhook-id"] for request in pipeline.sender.to(BACKUP)}


# -- slow endpoints --------------------------------------------------------------------------------------------


async def test_a_hanging_endpoint_delays_no_other(pipeline: Pipeline) -> None:
    gate = asyncio.Event()

    async def hang(request: Request) -> Response:
        await gate.wait()
        return Response(200, {})

    pipeline.sender.put(URL, hang)
    await pipeline.register(webhook(), webhook(id="wh_other", url=BACKUP))
    await pipeline.fan_out_events(*(event(id=f"evt_{number}") for number in range(20)))
    # Once it is known to be slow, it counts as suspect and no longer as new.
    pipeline.clock.advance(SLOW_SECONDS + 0.1)
    pipeline.slots.maintain()
    await quiet()
    assert len(pipeline.sender.to(BACKUP)) == 20
    pipeline.clock.advance(9)
    pipeline.slots.maintain()
    await quiet()
    assert {s.reason for s in pipeline.recorder.of("wh_crm") if s.state is State.HELD} == {"busy"}
    gate.set()
    await quiet()
    for _ in range(10):
        pipeline.clock.advance(31)
        await pipeline.release_held.cycle()
        await quiet()
    assert {s.state for s in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    assert set(pipeline.sent().values()) == {2}


async def test_a_retry_is_due_at_the_end_of_its_wait(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    due: list[datetime] = []
    acquire = pipeline.slots.acquire

    async def noting(request: SlotRequest, waiting: Any) -> AcquiredSlot:
        due.append(request.due_at)
        return await acquire(request, waiting)

    monkeypatch.setattr(pipeline.slots, "acquire", noting)
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    started = pipeline.clock.now()
    await pipeline.fan_out_events(event())
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    assert due == [started, started + SCHEDULE.tiers[0].wait]


async def test_a_held_retry_keeps_its_tier(pipeline: Pipeline) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(event())
    await pipeline.register(paused())
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    assert pipeline.delivery_state().state is State.HELD
    await pipeline.register(webhook())
    await pipeline.release_held.cycle()
    await quiet()
    assert [one.attempt for one in pipeline.deliveries(retry_topic(SCHEDULE.tiers[1]))] == [3]


async def test_a_wait_for_a_slot_ends_with_its_partition(pipeline: Pipeline) -> None:
    gate = asyncio.Event()

    async def response(request: Request) -> Response:
        await gate.wait()
        return Response(200, {})

    pipeline.sender.put(URL, response)
    await pipeline.register(webhook(max_concurrency=1))
    await pipeline.fan_out_events(*(event(id=f"evt_{number}") for number in range(3)))
    partitions = pipeline.kafka.partitions(DELIVERIES)
    going = asyncio.ensure_future(pipeline.consumer.revoke(partitions))
    await quiet()
    gate.set()
    await going
    await quiet()
    assert len(pipeline.sender.requests) == 1
    pipeline.consumer.assign(partitions)
    await quiet()
    assert pipeline.sent() == {"evt_0": 1, "evt_1": 1, "evt_2": 1}


# -- what is measured ------------------------------------------------------------------------------------------


async def test_only_a_first_attempt_has_a_delay(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(), paused(id="wh_paused"))
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.fan_out_events(event())
    await pipeline.wait_for_tier(SCHEDULE.tiers[0])
    await pipeline.enable(webhook_id="wh_paused")
    await pipeline.release_held.cycle()
    await quiet()
    assert len(pipeline.sender.requests) == 3
    assert len(pipeline.telemetry.observed["first_attempt_delay_seconds"]) == 1
