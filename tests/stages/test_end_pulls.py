"""What waits for readers ends after the retention of its webhook, or leaves by requests when that has a URL again."""

from datetime import timedelta

import pytest

from builders import NOON, delivery, event, webhook
from fakes import quiet
from stages.pipeline import Pipeline
from stages.test_crash_points import run_until_crash
from streams.core.deliveries.delivery import DeathReason, HoldReason, State
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import TEMPORARY_LIFE, Pause, PauseReason, Registration, Status, Webhook
from streams.stages.release_held import ENDED_MESSAGE, NOT_PULLED_MESSAGE
from streams.topics import DELIVERIES

DAY = timedelta(days=1)


def pulled(**changes: object) -> Webhook:
    return webhook(url="", **changes)


async def test_a_pull_webhook_gets_no_request(pipeline: Pipeline) -> None:
    await pipeline.register(pulled())
    await pipeline.fan_out_events(event())
    state = pipeline.delivery_state()
    assert (state.state, state.reason, state.due_at) == (State.HELD, HoldReason.PULL, NOON)
    assert await pipeline.release_held.cycle() == 0
    assert pipeline.sent() == {}
    # `deliver` has nothing to do with it.
    assert pipeline.kafka.topic(DELIVERIES) == []
    assert pipeline.telemetry.counts["deliveries_held_total"] == 1


async def test_a_paused_pull_webhooks_event_is_held_in_its_pause(pipeline: Pipeline) -> None:
    await pipeline.register(pulled(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL)))
    await pipeline.fan_out_events(event())
    state = pipeline.delivery_state()
    assert (state.state, state.reason, state.pause_id) == (State.HELD, HoldReason.PAUSED, "pause_1")


async def test_a_webhook_that_became_pull_meanwhile_gets_no_request(pipeline: Pipeline) -> None:
    await pipeline.register(pulled())
    await pipeline.put(DELIVERIES, delivery())
    state = pipeline.delivery_state()
    assert (state.state, state.reason) == (State.HELD, HoldReason.PULL)
    assert pipeline.sent() == {}


@pytest.mark.parametrize(("retention", "days"), [({}, 7), ({"retentionDays": 2}, 2)])
async def test_it_is_a_dead_letter_after_the_retention(
    pipeline: Pipeline, retention: dict[str, object], days: int
) -> None:
    await pipeline.register(pulled(options=parse_options(retention)))
    await pipeline.fan_out_events(event())
    pipeline.clock.advance(days * DAY.total_seconds())
    assert await pipeline.end_pulls.cycle() == 0
    pipeline.clock.advance(1)
    assert await pipeline.end_pulls.cycle() == 1
    await quiet()
    [letter] = pipeline.dead_letters()
    assert (letter.reason, letter.message) == (DeathReason.NOT_PULLED, NOT_PULLED_MESSAGE)
    assert pipeline.delivery_state().state is State.DEAD
    assert await pipeline.end_pulls.cycle() == 0


async def test_time_in_a_pause_ends_nothing(pipeline: Pipeline) -> None:
    await pipeline.register(pulled())
    await pipeline.fan_out_events(event())
    await pipeline.register(pulled(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL)))
    pipeline.clock.advance(30 * DAY.total_seconds())
    assert await pipeline.end_pulls.cycle() == 0


async def test_a_webhook_with_a_url_again_sends_what_waited(pipeline: Pipeline) -> None:
    await pipeline.register(pulled())
    await pipeline.fan_out_events(event())
    await pipeline.register(webhook())
    assert await pipeline.end_pulls.cycle() == 1
    assert await pipeline.release_held.cycle() == 1
    await quiet()
    assert pipeline.sent() == {event().id: 1}


async def test_a_cycle_counts_the_deliveries_of_every_webhook(pipeline: Pipeline) -> None:
    """While there are any, the next cycle comes soon."""
    await pipeline.register(pulled(id="wh_a"), pulled(id="wh_b"))
    await pipeline.fan_out_events(event())
    await pipeline.register(webhook(id="wh_a"), webhook(id="wh_b"))
    assert await pipeline.end_pulls.cycle() == 2


async def test_what_was_held_for_an_endpoint_waits_for_readers(pipeline: Pipeline) -> None:
    await pipeline.register(webhook(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL)))
    await pipeline.fan_out_events(event())
    await pipeline.register(pulled(status=Status.PAUSED, pause=Pause("pause_1", PauseReason.MANUAL)))
    await pipeline.enable()
    assert await pipeline.release_held.cycle() == 1
    await quiet()
    assert pipeline.delivery_state().reason == HoldReason.PULL
    assert pipeline.sent() == {}


@pytest.mark.parametrize(
    ("port", "method"),
    [("end_pulls.held", "unacknowledged"), ("release_held.producer", "produce"), ("release_held.recorder", "record")],
)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_ends_it_once(pipeline: Pipeline, port: str, method: str, after: bool) -> None:
    await pipeline.register(pulled())
    await pipeline.fan_out_events(event())
    pipeline.clock.advance(8 * DAY.total_seconds())
    await pipeline.crash_at(port, method, after=after)
    await run_until_crash(pipeline, pipeline.end_pulls.cycle)
    await pipeline.end_pulls.cycle()
    await quiet()
    assert pipeline.delivery_state().state is State.DEAD
    # The same record again, if the process died before its row was stored.
    assert {(letter.delivery.generation, letter.delivery.step) for letter in pipeline.dead_letters()} == {(1, 3)}


async def test_a_temporary_webhook_ends_without_a_reader(pipeline: Pipeline) -> None:
    await pipeline.register(pulled())
    pipeline.outbox.put_registration(Registration(pulled(), NOON, expires_at=NOON + TEMPORARY_LIFE))
    await quiet()
    await pipeline.fan_out_events(event())
    pipeline.clock.advance(TEMPORARY_LIFE.total_seconds() - 1)
    assert await pipeline.end_pulls.cycle() == 0
    pipeline.clock.advance(1)
    assert await pipeline.end_pulls.cycle() == 1
    await quiet()
    assert pipeline.outbox.live("wh_1") is None
    assert await pipeline.end_pulls.cycle() == 1
    state = pipeline.delivery_state()
    assert (state.state, state.message) == (State.DISCARDED, ENDED_MESSAGE)
    assert pipeline.dead_letters() == []
