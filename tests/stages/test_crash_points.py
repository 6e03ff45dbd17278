"""Each stage crashes between each two steps: nothing is lost, and duplicates are as documented."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from builders import NOON, event, paused, webhook
from fakes import FakeEncryptionCheck, FakeLease, cancel_others, postponed_work, quiet, until
from stages.pipeline import BROKEN, CODEC, SCHEDULE, URL, Pipeline
from streams.core.deliveries.delivery import State
from streams.core.deliveries.outcome import Response
from streams.core.webhooks.webhook import Status
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Record
from streams.stages.lease import LeaseKeeper
from streams.stages.publish import Publish
from streams.stages.release_held import ReleaseLimits
from streams.topics import DELIVERIES, HELD, SUBSCRIPTIONS

BEFORE, AFTER = False, True
EVENTS = [event(id=f"evt_{number}") for number in range(3)]


def publish_events(pipeline: Pipeline) -> Sequence[Record]:
    return [pipeline.publish_event(one) for one in EVENTS]


def duplicates(pipeline: Pipeline) -> int:
    return sum(pipeline.sent().values()) - len(pipeline.sent())


def lost(pipeline: Pipeline) -> set[str]:
    return {one.id for one in EVENTS} - pipeline.sent().keys()


async def run_until_crash(pipeline: Pipeline, action: Callable[[], Awaitable[object]]) -> None:
    """Run until the process crashes; then restart all processes."""
    task = asyncio.ensure_future(action())
    await until(lambda: pipeline.is_dead)
    task.cancel()
    await cancel_others()
    pipeline.crashing_ports.clear()
    await pipeline.crash()
    await quiet()


# -- fan-out: read → ask where the topic ends → match → produce → all acknowledged → ack -----------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "written_twice"),
    [
        ("fan-out.table", "catch_up", BEFORE, 0),
        ("fan-out.table", "catch_up", AFTER, 0),
        ("fan-out.producer", "produce", BEFORE, 0),
        ("fan-out.producer", "produce", AFTER, 3),
    ],
    ids=["read → ask", "ask → match", "match → produce", "acknowledged → ack"],
)
async def test_fan_out_crashes(pipeline: Pipeline, port: str, method: str, after: bool, written_twice: int) -> None:
    await pipeline.register(webhook())
    await pipeline.crash_at(port, method, after=after)
    batch = publish_events(pipeline)
    await run_until_crash(pipeline, lambda: pipeline.fan_out.handle(batch))
    # The batch was not acknowledged: the next process reads it again.
    await pipeline.fan_out.handle(batch)
    await quiet()
    assert len(pipeline.deliveries()) == 3 + written_twice
    assert len({one.id for one in pipeline.deliveries()}) == 3
    assert lost(pipeline) == set()
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


# -- subscriptions table: read from the start → the sentinel → the end -----------------------------------------


async def test_nothing_is_matched_before_the_sentinel(pipeline: Pipeline) -> None:
    """Before the sentinel is there nothing is matched, and nothing is lost."""
    await cancel_others()
    for outgoing in await records_without_a_sentinel(pipeline):
        pipeline.kafka.append(outgoing)
    batch = publish_events(pipeline)
    handling = asyncio.ensure_future(pipeline.fan_out.handle(batch))
    await quiet()
    assert not handling.done()
    assert pipeline.deliveries() == []
    await pipeline.crash()
    await pipeline.fan_out.handle(batch)
    await quiet()
    assert (lost(pipeline), duplicates(pipeline)) == (set(), 0)


async def records_without_a_sentinel(pipeline: Pipeline) -> Sequence[Outgoing]:
    """A webhook's record, from a `publish` that died before its first sentinel."""
    pipeline.outbox.put(webhook())
    publish = Publish(
        pipeline.outbox,
        LeaseKeeper(FakeLease(), FakeEncryptionCheck(), pipeline.telemetry, Outages(pipeline.telemetry)),
        pipeline.kafka,
        CODEC,
        pipeline.telemetry,
        FakeEncryptionCheck(),
        pipeline.clock,
        lambda: "first",
        Outages(pipeline.telemetry),
        postponed_work(pipeline.telemetry),
    )
    [due] = await pipeline.outbox.list_due(10)
    return [publish._encode_change(due)]


# -- deliver: due → open → … → POST → produce → both acknowledged → complete → commit ------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "sent_twice"),
    [
        ("deliver.sender", "send", BEFORE, 0),
        # The process ends at the first response: the other requests have not left.
        ("deliver.sender", "send", AFTER, 1),
        ("deliver.producer", "produce", BEFORE, 3),
        ("deliver.producer", "produce", AFTER, 3),
        ("deliver.consumer", "commit", BEFORE, 3),
        ("deliver.consumer", "commit", AFTER, 0),
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
async def test_deliver_crashes(pipeline: Pipeline, port: str, method: str, after: bool, sent_twice: int) -> None:
    await pipeline.register(webhook())
    await pipeline.crash_at(port, method, after=after)

    async def deliver() -> None:
        await pipeline.fan_out.handle(publish_events(pipeline))
        await asyncio.Event().wait()

    await run_until_crash(pipeline, deliver)
    assert lost(pipeline) == set()
    assert duplicates(pipeline) == sent_twice
    assert len({request.body for request in pipeline.sender.requests}) == 3
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    assert len(pipeline.recorder.attempts) == 3


@pytest.mark.parametrize("after", [BEFORE, AFTER], ids=["failed → the tier", "the tier → complete"])
async def test_deliver_crashes_around_a_retry(pipeline: Pipeline, after: bool) -> None:
    pipeline.sender.responses(URL, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, Response(200, {}))
    await pipeline.register(webhook())
    await pipeline.crash_at("deliver.producer", "produce", after=after)

    async def deliver() -> None:
        await pipeline.fan_out.handle(publish_events(pipeline))
        await asyncio.Event().wait()

    await run_until_crash(pipeline, deliver)
    for tier in SCHEDULE.tiers:
        await pipeline.wait_for_tier(tier)
    assert lost(pipeline) == set()
    # The first attempt, the same again after the crash, and the retry.
    assert pipeline.sent() == {one.id: 3 for one in EVENTS}
    # A repeated attempt is visible once.
    attempts = pipeline.recorder.attempts.values()
    assert sorted((attempt.event_id, attempt.number) for attempt in attempts) == [
        (one.id, number) for one in EVENTS for number in (1, 2)
    ]
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


# -- record: transaction → COMMIT → offsets ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after"),
    [
        ("record.recorder", "record", BEFORE),
        ("record.recorder", "record", AFTER),
        ("record.consumer", "commit", BEFORE),
        ("record.consumer", "commit", AFTER),
    ],
    ids=["read → transaction", "COMMIT → offsets", "before the offsets", "after the offsets"],
)
async def test_record_crashes(pipeline: Pipeline, port: str, method: str, after: bool) -> None:
    pipeline.sender.responses(URL, BROKEN)
    await pipeline.register(webhook())
    await pipeline.crash_at(port, method, after=after)

    async def record() -> None:
        await pipeline.fan_out.handle([pipeline.publish_event(event())])
        await asyncio.Event().wait()

    await run_until_crash(pipeline, record)
    assert pipeline.delivery_state().state is State.WAITING
    assert len(pipeline.recorder.attempts) == 1
    # A failure that is read twice counts once.
    assert pipeline.recorder.health["wh_crm"].failures == 1


# -- publish: read the dirty set → produce → acknowledged → clean --------------------------------------------------


@pytest.mark.parametrize(
    ("port", "method", "after", "written_twice"),
    [
        ("publish.outbox", "list_due", AFTER, 0),
        ("publish.producer", "produce", BEFORE, 0),
        ("publish.producer", "produce", AFTER, 1),
        ("publish.outbox", "mark_published", AFTER, 0),
    ],
    ids=["read → produce", "before the produce", "acknowledged → clean", "clean → the sentinel"],
)
async def test_publish_crashes(pipeline: Pipeline, port: str, method: str, after: bool, written_twice: int) -> None:
    await cancel_others()
    pipeline.outbox.put(webhook())
    pipeline.crash_points[port] = method, after
    pipeline.start()
    await run_until_crash(pipeline, asyncio.Event().wait)
    written = [record for record in pipeline.kafka.topic(SUBSCRIPTIONS) if record.key == b"wh_crm"]
    assert len(written) == 1 + written_twice
    assert pipeline.table.find("wh_crm") is not None
    assert pipeline.table.table.is_complete()
    assert await pipeline.outbox.list_due(10) == []


# -- release_held: read → produce → acknowledged → recorded ---------------------------------------------


async def test_release_held_crashes_between_two_chunks(pipeline: Pipeline) -> None:
    pipeline.release_limits = ReleaseLimits(min_chunk_records=1)
    await pipeline.register(paused())
    await pipeline.fan_out_events(*EVENTS)
    await pipeline.register(webhook(status=Status.ACTIVE))
    await pipeline.crash_at("release_held.producer", "produce", after=True)
    await run_until_crash(pipeline, pipeline.release_held.cycle)
    assert len([one for one in pipeline.deliveries(DELIVERIES) if one.step > 1]) == 1
    await pipeline.release_held.cycle()
    await quiet()
    assert (lost(pipeline), duplicates(pipeline)) == (set(), 0)
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}


@pytest.mark.parametrize(
    ("port", "method", "after"),
    [
        ("release_held.held", "oldest", AFTER),
        ("release_held.producer", "produce", BEFORE),
        ("release_held.producer", "produce", AFTER),
        ("release_held.recorder", "record", BEFORE),
        ("release_held.recorder", "record", AFTER),
    ],
    ids=["read → produce", "before the produce", "acknowledged → recorded", "before it is recorded", "recorded → next"],
)
async def test_release_held_crashes(pipeline: Pipeline, port: str, method: str, after: bool) -> None:
    await pipeline.register(paused())
    await pipeline.fan_out_events(*EVENTS)
    assert len(pipeline.kafka.topic(HELD)) == 3
    await pipeline.register(webhook(status=Status.ACTIVE))
    await pipeline.crash_at(port, method, after=after)
    await run_until_crash(pipeline, pipeline.release_held.cycle)
    await pipeline.release_held.cycle()
    await quiet()
    assert (lost(pipeline), duplicates(pipeline)) == (set(), 0)
    assert {state.state for state in pipeline.recorder.delivery_states.values()} == {State.DELIVERED}
    # What was released is attempted and recorded, and so not held any more, before the next cycle.
    released = [one for one in pipeline.deliveries(DELIVERIES) if one.step > 1]
    assert len(released) == 3
    assert len({(one.id, one.generation, one.step) for one in released}) == 3
    assert {one.first_seen_at for one in released} == {NOON}
