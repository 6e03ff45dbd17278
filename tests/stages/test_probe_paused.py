"""During an automatic pause one held event is tried now and then; the endpoint that takes it gets the rest."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NEW_SECRET, NOON, ciphertext, event, paused, webhook
from fakes import quiet, until
from stages.pipeline import BACKUP, BROKEN, URL, Pipeline
from stages.test_crash_points import run_until_crash
from streams.core.deliveries.delivery import State
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import Response
from streams.core.failed_work import FIRST_RETRY_SECONDS
from streams.core.webhooks.delivery_options import Resume, parse_options
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status, Webhook
from streams.features.webhooks.changes import to_paused
from streams.topics import DELIVERIES

PROBED = parse_options({"resume": "probe"})
HOUR = timedelta(hours=1)


def registration(pipeline: Pipeline, webhook_id: str = "wh_crm") -> Registration:
    live = pipeline.outbox.live(webhook_id)
    assert live
    return live


async def hold(pipeline: Pipeline, count: int = 3, **changes: object) -> None:
    """A webhook that is paused at noon with held events, oldest first; its first probe is due at one o'clock."""
    changed: Webhook = replace(paused(PauseReason.FAILURES), **{"options": PROBED, **changes})  # type: ignore[arg-type]
    probe_at = NOON + HOUR if changed.options.resume is Resume.PROBE else None
    pipeline.outbox.put_registration(Registration(changed, NOON, paused_at=NOON, probe_at=probe_at))
    await quiet()
    for number in range(count):
        await pipeline.fan_out_events(event(id=f"evt_{number}"))
        pipeline.clock.advance(1)


async def probe(pipeline: Pipeline) -> int:
    sent_count = await pipeline.probe_paused.cycle()
    await quiet()
    return sent_count


async def until_next_probe(pipeline: Pipeline) -> None:
    probe_at = registration(pipeline).probe_at
    assert probe_at
    await pipeline.wait((probe_at - pipeline.clock.now()).total_seconds())


def states(pipeline: Pipeline) -> list[State]:
    rows = sorted(pipeline.recorder.delivery_states.values(), key=lambda state: state.first_seen_at)
    return [row.state for row in rows]


async def test_the_oldest_event_is_tried_after_an_hour(pipeline: Pipeline) -> None:
    await hold(pipeline)
    assert await probe(pipeline) == 0
    await until_next_probe(pipeline)
    assert await probe(pipeline) == 1
    assert pipeline.sent() == {"evt_0": 1}
    assert registration(pipeline).webhook.status is Status.ACTIVE
    assert registration(pipeline).probe_at is None
    assert await pipeline.release_held.cycle() == 2
    await quiet()
    assert states(pipeline) == [State.DELIVERED] * 3
    assert pipeline.attempts()[0].pause_id == "pause_1"


async def test_a_probe_that_fails_is_repeated_later_each_time(pipeline: Pipeline) -> None:
    await hold(pipeline)
    pipeline.sender.responses(URL, *[BROKEN] * 6, Response(204, {}, b""))
    hours = []
    for _ in range(6):
        await until_next_probe(pipeline)
        hours.append(round((pipeline.clock.now() - NOON) / HOUR))
        assert [await probe(pipeline) for _ in range(3)] == [1, 0, 0]
        assert states(pipeline) == [State.HELD] * 3
    assert hours == [1, 6, 24, 48, 72, 96]
    # More failures than the schedule has attempts: a probe uses none of its retries.
    assert pipeline.dead_letters() == []
    assert {state.target_attempt for state in pipeline.recorder.delivery_states.values()} == {1}
    await until_next_probe(pipeline)
    assert await probe(pipeline) == 1
    assert registration(pipeline).webhook.status is Status.ACTIVE
    # Another event each time, as long as there are others: the endpoint may always refuse one.
    assert [attempt.event_id for attempt in pipeline.attempts()][:3] == ["evt_0", "evt_1", "evt_2"]
    assert [attempt.number for attempt in pipeline.attempts()] == [1, 1, 1, 2, 3, 4, 5]


async def test_two_probes_are_never_under_way_at_once(pipeline: Pipeline) -> None:
    await hold(pipeline)
    pipeline.sender.hangs(URL)
    await until_next_probe(pipeline)
    assert [await probe(pipeline) for _ in range(3)] == [1, 0, 0]
    assert states(pipeline) == [State.WAITING, State.HELD, State.HELD]


@pytest.mark.parametrize("reason", [PauseReason.FAILURES, PauseReason.GONE, PauseReason.MANUAL])
async def test_only_a_webhook_that_wants_it_is_probed(pipeline: Pipeline, reason: PauseReason) -> None:
    await hold(pipeline, pause=paused(reason).pause, options=parse_options({}))
    await pipeline.wait(100 * 3600)
    assert await probe(pipeline) == 0
    assert pipeline.sender.requests == []


async def test_a_webhook_without_held_events_is_probed_by_the_first(pipeline: Pipeline) -> None:
    await hold(pipeline, 0)
    await until_next_probe(pipeline)
    assert await probe(pipeline) == 0
    await pipeline.fan_out_events(event())
    assert await probe(pipeline) == 1


async def test_a_probe_whose_pause_is_over_does_as_its_end_decided(pipeline: Pipeline) -> None:
    await hold(pipeline)
    await until_next_probe(pipeline)
    await pipeline.crash_at("deliver.sender", "send", after=False)
    await pipeline.probe_paused.cycle()
    await until(lambda: pipeline.is_dead)
    await pipeline.enable(HeldChoice.DISCARD)
    pipeline.crashing_ports.clear()
    await pipeline.crash()
    await quiet()
    await pipeline.release_held.cycle()
    await quiet()
    assert pipeline.sender.requests == []
    assert states(pipeline) == [State.DISCARDED] * 3


async def test_a_person_may_stop_the_probes_of_a_pause(pipeline: Pipeline) -> None:
    await hold(pipeline)
    stopped = to_paused(registration(pipeline), Pause("pause_2", PauseReason.MANUAL), pipeline.clock.now())
    pipeline.outbox.put_registration(stopped)
    await pipeline.wait(100 * 3600)
    assert await probe(pipeline) == 0
    assert stopped.webhook.pause == Pause("pause_1", PauseReason.MANUAL)


async def test_a_probe_goes_to_the_url_and_never_to_the_fallback(pipeline: Pipeline) -> None:
    await hold(pipeline)
    changed = replace(registration(pipeline).webhook, fallback_url=BACKUP)
    await pipeline.register(changed)
    pipeline.sender.responses(URL, BROKEN)
    await until_next_probe(pipeline)
    assert await probe(pipeline) == 1
    assert [request.url for request in pipeline.sender.requests] == [URL]
    assert states(pipeline) == [State.HELD] * 3


async def test_a_probe_of_an_earlier_pause_enables_nothing(pipeline: Pipeline) -> None:
    await hold(pipeline)
    response = pipeline.sender.hangs(URL)
    await until_next_probe(pipeline)
    await probe(pipeline)
    newer = replace(registration(pipeline).webhook, pause=replace(paused(PauseReason.FAILURES).pause, id="pause_2"))  # type: ignore[type-var]
    await pipeline.register(newer)
    response.set()
    await quiet()
    assert states(pipeline)[0] is State.DELIVERED
    assert registration(pipeline).webhook.status is Status.PAUSED


async def test_a_probe_that_kafka_refuses_is_tried_again_later(pipeline: Pipeline) -> None:
    await hold(pipeline, 1)
    await until_next_probe(pipeline)
    pipeline.kafka.most_bytes[DELIVERIES] = 10
    assert [await probe(pipeline) for _ in range(3)] == [0, 0, 0]
    assert pipeline.telemetry.counts["work_failed_total"] == 1
    pipeline.kafka.most_bytes.clear()
    await pipeline.wait(FIRST_RETRY_SECONDS)
    assert await probe(pipeline) == 1
    assert states(pipeline) == [State.DELIVERED]


async def test_a_probe_during_a_rotation_is_signed_with_both_secrets(pipeline: Pipeline) -> None:
    old, new = webhook().secrets[0], ciphertext(NEW_SECRET)
    await hold(pipeline, secrets=(replace(old, valid_until=NOON + 3 * HOUR), new))
    await until_next_probe(pipeline)
    assert await probe(pipeline) == 1
    [request] = pipeline.sender.requests
    assert len(request.headers["webhook-signature"].split()) == 2


@pytest.mark.parametrize(
    ("port", "method", "after"),
    [
        ("probe_paused.held", "due_probes", True),
        ("probe_paused.producer", "produce", False),
        ("probe_paused.producer", "produce", True),
        ("probe_paused.recorder", "record", False),
        ("probe_paused.recorder", "record", True),
    ],
)
async def test_a_crash_during_a_probe_costs_nothing(pipeline: Pipeline, port: str, method: str, after: bool) -> None:
    await hold(pipeline)
    await until_next_probe(pipeline)
    await pipeline.crash_at(port, method, after=after)
    await run_until_crash(pipeline, pipeline.probe_paused.cycle)
    await probe(pipeline)
    assert registration(pipeline).webhook.status is Status.ACTIVE
    await pipeline.release_held.cycle()
    await quiet()
    assert states(pipeline) == [State.DELIVERED] * 3
    assert set(pipeline.sent()) == {"evt_0", "evt_1", "evt_2"}
    # Only a probe that left before its row was stored may be sent twice.
    assert sum(pipeline.sent().values()) <= 4
