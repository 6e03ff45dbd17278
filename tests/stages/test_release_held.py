"""Held deliveries are released oldest first, as chosen, and no faster than the endpoint responds."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

import pytest

from builders import event, paused, webhook
from fakes import quiet
from stages.pipeline import RELEASE_RATE, URL, Pipeline
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.delivery import DeathReason, State, Trigger
from streams.core.deliveries.held import START_RELEASE_WINDOW, HeldChoice
from streams.core.deliveries.outcome import Response
from streams.core.deliveries.request import Request
from streams.core.errors import Unavailable
from streams.core.events.event import Event
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import Pause, PauseReason, Status
from streams.ports.kafka import Outgoing
from streams.stages.release_held import CYCLE_SECONDS, ReleaseLimits
from streams.topics import DELIVERIES


def events(count: int) -> list[Event]:
    return [event(id=f"evt_{number}") for number in range(count)]


async def hold_each(pipeline: Pipeline, webhooks: int, count: int) -> list[str]:
    """Make paused webhooks with `count` held deliveries each; return their ids."""
    names = [f"wh_{number}" for number in range(webhooks)]
    for name in names:
        pause = Pause(f"pause_{name}", PauseReason.MANUAL)
        await pipeline.register(webhook(id=name, status=Status.PAUSED, pause=pause))
    await pipeline.fan_out_events(*events(count))
    return names


async def hold(pipeline: Pipeline, count: int) -> None:
    """Hold `count` deliveries for a paused webhook, oldest first."""
    await pipeline.register(paused())
    for one in events(count):
        await pipeline.fan_out_events(one)
        pipeline.clock.advance(1)


async def release(pipeline: Pipeline, cycles: int = 1) -> list[int]:
    """Number of deliveries released in each cycle."""
    left = []
    for _ in range(cycles):
        left.append(await pipeline.release_held.cycle())
        await quiet()
    return left


def states(pipeline: Pipeline) -> set[State]:
    return {one.state for one in pipeline.recorder.delivery_states.values()}


async def test_nothing_leaves_while_the_webhook_is_paused(pipeline: Pipeline) -> None:
    await hold(pipeline, 3)
    assert await release(pipeline) == [0]
    assert pipeline.sender.requests == []


async def test_the_oldest_leave_first_with_their_attempt_number(pipeline: Pipeline) -> None:
    await hold(pipeline, 3)
    await pipeline.enable()
    assert await release(pipeline) == [3]
    assert [request.headers["webhook-id"] for request in pipeline.sender.requests] == ["evt_0", "evt_1", "evt_2"]
    assert {request.headers["webhook-attempt"] for request in pipeline.sender.requests} == {"1"}
    assert states(pipeline) == {State.DELIVERED}


async def test_the_room_grows_with_the_attempts(pipeline: Pipeline) -> None:
    await hold(pipeline, 60)
    await pipeline.enable()
    assert await release(pipeline, 4) == [
        START_RELEASE_WINDOW,
        2 * START_RELEASE_WINDOW,
        4 * START_RELEASE_WINDOW,
        60 - 7 * START_RELEASE_WINDOW,
    ]
    assert states(pipeline) == {State.DELIVERED}


async def test_one_cycle_releases_for_several_webhooks(pipeline: Pipeline) -> None:
    pipeline.release_limits = ReleaseLimits(max_portion_webhooks=2, progress_batch_size=3)
    await pipeline.crash()
    names = await hold_each(pipeline, 5, START_RELEASE_WINDOW + 1)
    for name in names[:4]:
        await pipeline.enable(webhook_id=name)
    assert await release(pipeline, 3) == [4 * START_RELEASE_WINDOW, 4, 0]
    left = {(one.webhook_id, one.state) for one in pipeline.recorder.delivery_states.values()}
    assert left == {*((name, State.DELIVERED) for name in names[:4]), (names[4], State.HELD)}


async def test_at_most_the_room_is_under_way(pipeline: Pipeline) -> None:
    pipeline.sender.put(URL, hang)
    await hold(pipeline, 60)
    await pipeline.enable()
    assert await release(pipeline, 3) == [START_RELEASE_WINDOW, 0, 0]
    # The next process knows what is under way.
    await pipeline.crash()
    await quiet()
    assert await release(pipeline) == [0]


async def test_many_are_released_in_chunks(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.release_limits = ReleaseLimits(min_chunk_records=2, max_chunks=4)
    await pipeline.crash()
    chunks: list[int] = []
    produce = pipeline.kafka.produce

    async def counted(records: Sequence[Outgoing]) -> Sequence[datetime]:
        if records[0].topic == DELIVERIES:
            chunks.append(len(records))
        return await produce(records)

    await hold(pipeline, START_RELEASE_WINDOW - 1)
    await pipeline.enable()
    monkeypatch.setattr(pipeline.kafka, "produce", counted)
    assert await release(pipeline) == [START_RELEASE_WINDOW - 1]
    assert chunks == [2, 2, 2, 1]
    assert states(pipeline) == {State.DELIVERED}


async def test_the_chunks_of_all_webhooks_share_one_cycle(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline.release_limits = ReleaseLimits(max_portion_webhooks=1, min_chunk_records=1)
    await pipeline.crash()
    for name in await hold_each(pipeline, 3, START_RELEASE_WINDOW):
        await pipeline.enable(webhook_id=name)
    me, sleep = asyncio.current_task(), asyncio.sleep
    slept: list[float] = []

    async def counted(seconds: float) -> None:
        if asyncio.current_task() is me:
            slept.append(seconds)
        await sleep(0)

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "sleep", counted)
        assert await pipeline.release_held.cycle() == 3 * START_RELEASE_WINDOW
    assert len([seconds for seconds in slept if seconds]) == 3 * (START_RELEASE_WINDOW - 1)
    assert sum(slept) <= CYCLE_SECONDS


async def test_the_release_rate_is_a_limit(pipeline: Pipeline) -> None:
    await hold(pipeline, RELEASE_RATE)
    await pipeline.enable()
    left = await release(pipeline, 12)
    assert sum(left) == RELEASE_RATE // 2  # the unused rate of half a second
    pipeline.clock.advance(0.1)
    assert sum(await release(pipeline, 2)) == pytest.approx(RELEASE_RATE // 10, abs=1)


async def hang(request: Request) -> Response:
    await asyncio.Event().wait()
    return Response(200, {})


@pytest.mark.parametrize(
    ("choice", "state", "sent"),
    [
        (HeldChoice.DELIVER, State.DELIVERED, 4),
        (HeldChoice.KEEP, State.DEAD, 0),
        (HeldChoice.DISCARD, State.DISCARDED, 0),
    ],
)
async def test_the_choice_applies_to_late_arrivals(
    pipeline: Pipeline, choice: HeldChoice, state: State, sent: int
) -> None:
    await hold(pipeline, 3)
    late = pipeline.deliveries("deliveries.held")[0]
    await pipeline.enable(choice)
    await pipeline.put("deliveries.held", late._replace(event_id="evt_late"))
    await release(pipeline)
    assert states(pipeline) == {state}
    assert len(pipeline.recorder.delivery_states) == 4
    assert len(pipeline.sender.requests) == sent


async def test_a_kept_delivery_is_a_dead_letter_that_can_be_replayed(pipeline: Pipeline) -> None:
    await hold(pipeline, 1)
    await pipeline.enable(HeldChoice.KEEP)
    await release(pipeline)
    (dead,) = pipeline.dead_letters()
    assert (dead.reason, dead.delivery.event_id) == (DeathReason.KEPT, "evt_0")
    assert pipeline.telemetry.counts["dead_letters_total"] == 1
    assert await pipeline.replays.replay(DeliveryFilter(state=State.DEAD)) == [dead.delivery.id]
    await release(pipeline)
    assert pipeline.delivery_state().state is State.DELIVERED
    assert pipeline.delivery_state().generation == 2
    assert [one.trigger for one in pipeline.deliveries(DELIVERIES)][-1] is Trigger.MANUAL


@pytest.mark.parametrize("choice", [HeldChoice.KEEP, HeldChoice.DISCARD])
async def test_kept_and_discarded_deliveries_ignore_the_pace(pipeline: Pipeline, choice: HeldChoice) -> None:
    await hold(pipeline, 50)
    await pipeline.enable(choice)
    assert await release(pipeline, 3) == [8, 16, 26]


async def test_held_deliveries_of_a_deleted_webhook_are_dead_letters(pipeline: Pipeline) -> None:
    await hold(pipeline, 2)
    await pipeline.remove("wh_crm")
    await release(pipeline)
    assert [dead.reason for dead in pipeline.dead_letters()] == [DeathReason.DELETED] * 2


async def test_a_second_pause_stops_releases_and_loses_nothing(pipeline: Pipeline) -> None:
    await hold(pipeline, 40)
    await pipeline.enable()
    await release(pipeline)
    await pipeline.register(paused())
    assert await release(pipeline) == [0]
    await pipeline.enable()
    await release(pipeline, 4)
    assert states(pipeline) == {State.DELIVERED}
    assert set(pipeline.sent().values()) == {1}


async def test_each_new_hold_makes_the_next_release_later(pipeline: Pipeline) -> None:
    pipeline.sender.put(URL, hang)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(*events(30))
    # No response for nine seconds: the queue of this endpoint would wait too long.
    pipeline.clock.advance(9)
    pipeline.slots.maintain()
    await quiet()
    held = [one for one in pipeline.recorder.delivery_states.values() if one.state is State.HELD]
    assert held
    assert {one.reason for one in held} == {"busy"}
    first, *rest = await release(pipeline, 5)
    assert first > 0
    assert rest == [0, 0, 0, 0]
    pipeline.clock.advance(1.1)
    assert sum(await release(pipeline, 3)) > 0


async def test_a_pause_between_does_not_end_a_rest(pipeline: Pipeline) -> None:
    pipeline.sender.put(URL, hang)
    await pipeline.register(webhook())
    await pipeline.fan_out_events(*events(30))
    pipeline.clock.advance(9)
    pipeline.slots.maintain()
    await quiet()
    assert (await release(pipeline, 2))[1] == 0
    await pipeline.register(paused())
    await release(pipeline)
    await pipeline.enable()
    assert await release(pipeline, 2) == [0, 0]


async def test_releases_continue_after_a_database_outage(pipeline: Pipeline) -> None:
    await hold(pipeline, 3)
    await pipeline.enable()
    pipeline.recorder.away = True
    with pytest.raises(Unavailable):
        await pipeline.release_held.cycle()
    pipeline.recorder.away = False
    assert await release(pipeline) == [3]


async def test_a_delivery_that_kafka_refuses_is_a_dead_letter(pipeline: Pipeline) -> None:
    await hold(pipeline, 3)
    pipeline.kafka.most_bytes[DELIVERIES] = 10
    await pipeline.enable()
    assert await release(pipeline) == [3]
    assert states(pipeline) == {State.DEAD}
    reasons = {one.reason for one in pipeline.recorder.delivery_states.values()}
    assert reasons == {"refused"}


async def test_a_delivery_that_cannot_be_encoded_says_why(pipeline: Pipeline) -> None:
    await hold(pipeline, 1)
    # As a person may change a row.
    pipeline.recorder.change(pipeline.delivery_state()._replace(generation=2**70))
    await pipeline.enable()
    assert await release(pipeline) == [1]
    assert (pipeline.delivery_state().state, pipeline.delivery_state().reason) == (State.DEAD, "refused")
    assert (pipeline.delivery_state().message or "").startswith("It cannot be released: it cannot be handled (")


async def test_progress_that_cannot_be_read_is_logged(pipeline: Pipeline) -> None:
    pipeline.sender.put(URL, hang)
    await hold(pipeline, 2)
    await pipeline.enable()
    await release(pipeline)
    odd = min(pipeline.recorder.delivery_states)
    pipeline.held.odd_ids = [odd]
    await release(pipeline)
    [line] = pipeline.telemetry.fields_of("work_postponed")
    assert (line["kind"], line["work_id"], line["account_id"], line["why"]) == ("held_delivery", odd, "acme", "odd")


async def test_held_deliveries_are_released_at_their_webhooks_rate(pipeline: Pipeline) -> None:
    await pipeline.register(paused(options=parse_options({"ratePerSecond": 5})))
    await pipeline.fan_out_events(*events(40))
    await pipeline.enable()
    released = []
    for _ in range(100):
        released += await release(pipeline)
        pipeline.clock.advance(0.1)
    # Half a second's worth at the start, and five a second then: each is sent at once, and none is held again.
    assert sum(released[:10]) <= 10
    assert sum(released) == 40
    assert len(pipeline.sender.requests) == 40
