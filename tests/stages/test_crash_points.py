"""A process dies exactly between two steps: what that loses (nothing), and what it doubles (as documented)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from builders import NOON, event, paused, webhook
from fakes import FakeEncryptionCheck, FakeLease, cancel_others, quiet, until
from stages.pipeline import BROKEN, CODEC, SCHEDULE, URL, Pipeline
from streams.core.delivery import State
from streams.core.outcome import Response
from streams.core.webhook import Status
from streams.ports import Outgoing, Record
from streams.stages import fan_out as fan_out_module
from streams.stages import release_held as release_held_module
from streams.stages.publish import Publish
from streams.topics import DELIVERIES, HELD, SUBSCRIPTIONS

BEFORE, AFTER = False, True
EVENTS = [event(id=f"evt_{number}") for number in range(3)]


def publish_events(pipeline: Pipeline) -> Sequence[Record]:
    return [pipeline.publish_event(one) for one in EVENTS]


def doubled(pipeline: Pipeline) -> int:
    return sum(pipeline.sent().values()) - len(pipeline.sent())


def lost(pipeline: Pipeline) -> set[str]:
    return {one.id for one in EVENTS} - pipeline.sent().keys()


async def die(pipeline: Pipeline, doing: Callable[[], Awaitable[object]]) -> None:
    """Do it until the process dies in it; then all processes start again."""
    task = asyncio.ensure_future(doing())
    await until(lambda: pipeline.is_dead)
    task.cancel()
    await cancel_others()
    pipeline.died.clear()
    await pipeline.crash()
    await quiet()


# -- fan-out: read → ask where the view must be → match → produce → all acknowledged → ack -----------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "written_twice"),
    [
        ("fan-out.view", "catch_up", BEFORE, 0),
        ("fan-out.view", "catch_up", AFTER, 0),
        ("fan-out.log", "produce", BEFORE, 0),
        ("fan-out.log", "produce", AFTER, 3),
    ],
    ids=["read → ask", "ask → match", "match → produce", "acknowledged → ack"],
)
async def test_fan_out(pipeline: Pipeline, port: str, method: str, after: bool, written_twice: int) -> None:
    await pipeline.register(webhook())
    await pipeline.die(port, method, after=after)
    batch = publish_events(pipeline)
    await die(pipeline, lambda: pipeline.fan_out.handle(batch))
    # The batch was not acknowledged: whoever reads on reads it again.
    await pipeline.fan_out.handle(batch)
    await quiet()
    assert len(pipeline.deliveries()) == 3 + written_twice
    assert len({one.id for one in pipeline.deliveries()}) == 3
    assert lost(pipeline) == set()
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


async def test_fan_out_between_two_portions(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first portion is acknowledged, the others are not: the batch is read again, and sent once."""
    monkeypatch.setattr(fan_out_module, "PRODUCE_AT_ONCE", 1)
    await pipeline.register(webhook())
    await pipeline.die("fan-out.log", "produce", after=AFTER)
    batch = publish_events(pipeline)
    await die(pipeline, lambda: pipeline.fan_out.handle(batch))
    assert len(pipeline.deliveries()) == 1
    await pipeline.fan_out.handle(batch)
    await quiet()
    assert len({one.id for one in pipeline.deliveries()}) == 3
    assert (lost(pipeline), doubled(pipeline)) == (set(), 0)


# -- view: read from the start → the sentinel → the end --------------------------------------------------------


async def test_view(pipeline: Pipeline) -> None:
    """Read anew, before the sentinel is there: nothing is matched yet, and nothing is lost."""
    await cancel_others()
    for outgoing in await an_incomplete_topic(pipeline):
        pipeline.kafka.append(outgoing)
    batch = publish_events(pipeline)
    handling = asyncio.ensure_future(pipeline.fan_out.handle(batch))
    await quiet()
    assert not handling.done()
    assert pipeline.deliveries() == []
    await pipeline.crash()
    await pipeline.fan_out.handle(batch)
    await quiet()
    assert (lost(pipeline), doubled(pipeline)) == (set(), 0)


async def an_incomplete_topic(pipeline: Pipeline) -> Sequence[Outgoing]:
    """A webhook's record, as `publish` left it when it died before its first sentinel."""
    pipeline.outbox.put(webhook())
    publish = Publish(
        pipeline.outbox,
        FakeLease(),
        pipeline.kafka,
        CODEC,
        pipeline.telemetry,
        FakeEncryptionCheck(),
        pipeline.clock,
        lambda: "first",
    )
    [due] = await pipeline.outbox.due(10)
    return [publish._outgoing(due)]


# -- deliver: due → open → … → POST → produce → both acknowledged → complete → commit ------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "at_most_doubled"),
    [
        ("deliver.sender", "send", BEFORE, 0),
        ("deliver.sender", "send", AFTER, 3),
        ("deliver.log", "produce", BEFORE, 3),
        ("deliver.log", "produce", AFTER, 3),
        ("deliver.feed", "commit", BEFORE, 3),
        ("deliver.feed", "commit", AFTER, 0),
    ],
    ids=[
        "slot → POST",
        "POST → its outcome",
        "outcome → produce",
        "acknowledged → complete",
        "complete → commit",
        "commit → the next record",
    ],
)
async def test_deliver(pipeline: Pipeline, port: str, method: str, after: bool, at_most_doubled: int) -> None:
    await pipeline.register(webhook())
    await pipeline.die(port, method, after=after)

    async def deliver() -> None:
        await pipeline.fan_out.handle(publish_events(pipeline))
        await asyncio.Event().wait()

    await die(pipeline, deliver)
    assert lost(pipeline) == set()
    assert doubled(pipeline) <= at_most_doubled
    assert len({request.body for request in pipeline.sender.requests}) == 3
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    assert len(pipeline.recorder.attempts) == 3


@pytest.mark.parametrize("after", [BEFORE, AFTER], ids=["failed → the tier", "the tier → complete"])
async def test_deliver_to_a_tier(pipeline: Pipeline, after: bool) -> None:
    pipeline.sender.responses(URL, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, Response(200, {}))
    await pipeline.register(webhook())
    await pipeline.die("deliver.log", "produce", after=after)

    async def deliver() -> None:
        await pipeline.fan_out.handle(publish_events(pipeline))
        await asyncio.Event().wait()

    await die(pipeline, deliver)
    for tier in SCHEDULE.tiers:
        await pipeline.wait_out(tier)
    assert lost(pipeline) == set()
    # Twins of an attempt have its id; each of them is visible once.
    assert len(pipeline.recorder.attempts) == len({attempt.id for attempt in pipeline.recorder.attempts.values()})
    assert {state.state for state in pipeline.recorder.delivery_states.values()} <= {
        State.DELIVERED,
        State.WAITING,
    }


# -- record: transaction → COMMIT → offsets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after"),
    [
        ("record.recorder", "record", BEFORE),
        ("record.recorder", "record", AFTER),
        ("record.feed", "commit", BEFORE),
        ("record.feed", "commit", AFTER),
    ],
    ids=["read → transaction", "COMMIT → offsets", "before the offsets", "after the offsets"],
)
async def test_record(pipeline: Pipeline, port: str, method: str, after: bool) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.die(port, method, after=after)

    async def record() -> None:
        await pipeline.fan_out.handle([pipeline.publish_event(event())])
        await asyncio.Event().wait()

    await die(pipeline, record)
    assert pipeline.delivery_state().state is State.WAITING
    assert len(pipeline.recorder.attempts) == 1
    # A failure that is read twice is one failure.
    assert pipeline.recorder.health["wh_crm"].failures == 1


# -- publish: read the dirty set → produce → acknowledged → clean --------------------------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "written_twice"),
    [
        ("publish.outbox", "due", AFTER, 0),
        ("publish.log", "produce", BEFORE, 0),
        ("publish.log", "produce", AFTER, 1),
        ("publish.outbox", "published", AFTER, 0),
    ],
    ids=["read → produce", "before the produce", "acknowledged → clean", "clean → the sentinel"],
)
async def test_publish(pipeline: Pipeline, port: str, method: str, after: bool, written_twice: int) -> None:
    await cancel_others()
    pipeline.outbox.put(webhook())
    pipeline.dying[port] = method, after
    pipeline.start()
    await die(pipeline, asyncio.Event().wait)
    written = [record for record in pipeline.kafka.topic(SUBSCRIPTIONS) if record.key == b"wh_crm"]
    assert len(written) <= 1 + written_twice
    assert pipeline.table.find("wh_crm") is not None
    assert pipeline.table.table.is_complete()
    assert await pipeline.outbox.due(10) == []


# -- held drain: read what is held → produce → acknowledged → recorded ---------------------------------------------


async def test_held_drain_between_two_bites(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_held_module, "SMALLEST_CHUNK", 1)
    await pipeline.register(paused())
    await pipeline.happen(*EVENTS)
    await pipeline.register(webhook(status=Status.ACTIVE))
    await pipeline.die("drain.log", "produce", after=True)
    await die(pipeline, pipeline.drain.cycle)
    assert len([one for one in pipeline.deliveries(DELIVERIES) if one.step > 1]) == 1
    await pipeline.drain.cycle()
    await quiet()
    assert lost(pipeline) == set()
    assert doubled(pipeline) <= 1
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


@pytest.mark.parametrize(
    ("port", "method", "after", "at_most_doubled"),
    [
        ("drain.held", "oldest", AFTER, 0),
        ("drain.log", "produce", BEFORE, 0),
        ("drain.log", "produce", AFTER, 3),
        ("drain.recorder", "record", BEFORE, 3),
        ("drain.recorder", "record", AFTER, 0),
    ],
    ids=["read → produce", "before the produce", "acknowledged → recorded", "before it is recorded", "recorded → next"],
)
async def test_held_drain(pipeline: Pipeline, port: str, method: str, after: bool, at_most_doubled: int) -> None:
    await pipeline.register(paused())
    await pipeline.happen(*EVENTS)
    assert len(pipeline.kafka.topic(HELD)) == 3
    await pipeline.register(webhook(status=Status.ACTIVE))
    await pipeline.die(port, method, after=after)
    await die(pipeline, pipeline.drain.cycle)
    await pipeline.drain.cycle()
    await quiet()
    assert lost(pipeline) == set()
    assert doubled(pipeline) <= at_most_doubled
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    # Whatever was sent on twice is the same record: same generation, same step.
    sent_on = [one for one in pipeline.deliveries(DELIVERIES) if one.step > 1]
    assert len({(one.id, one.generation, one.step) for one in sent_on}) == 3
    assert {one.first_seen_at for one in sent_on} == {NOON}
