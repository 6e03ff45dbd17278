"""A process dies exactly between two steps: what that loses (nothing), and what it doubles (as documented)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from builders import NOON, event, paused, webhook
from fakes import FakeEncryptionCheck, FakeLease, cancel_others, quiet, until
from stages.path import BROKEN, CODEC, SCHEDULE, URL, Path
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


def publish_events(path: Path) -> Sequence[Record]:
    return [path.publish_event(one) for one in EVENTS]


def doubled(path: Path) -> int:
    return sum(path.sent().values()) - len(path.sent())


def lost(path: Path) -> set[str]:
    return {one.id for one in EVENTS} - path.sent().keys()


async def die(path: Path, doing: Callable[[], Awaitable[object]]) -> None:
    """Do it until the process dies in it; then all processes start again."""
    task = asyncio.ensure_future(doing())
    await until(lambda: path.is_dead)
    task.cancel()
    await cancel_others()
    path.died.clear()
    await path.crash()
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
async def test_fan_out(path: Path, port: str, method: str, after: bool, written_twice: int) -> None:
    await path.register(webhook())
    await path.die(port, method, after=after)
    batch = publish_events(path)
    await die(path, lambda: path.fan_out.handle(batch))
    # The batch was not acknowledged: whoever reads on reads it again.
    await path.fan_out.handle(batch)
    await quiet()
    assert len(path.deliveries()) == 3 + written_twice
    assert len({one.id for one in path.deliveries()}) == 3
    assert lost(path) == set()
    assert {delivery_state.state for delivery_state in path.recorder.delivery_states.values()} == {State.DELIVERED}


async def test_fan_out_between_two_portions(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first portion is acknowledged, the others are not: the batch is read again, and sent once."""
    monkeypatch.setattr(fan_out_module, "PRODUCE_AT_ONCE", 1)
    await path.register(webhook())
    await path.die("fan-out.log", "produce", after=AFTER)
    batch = publish_events(path)
    await die(path, lambda: path.fan_out.handle(batch))
    assert len(path.deliveries()) == 1
    await path.fan_out.handle(batch)
    await quiet()
    assert len({one.id for one in path.deliveries()}) == 3
    assert (lost(path), doubled(path)) == (set(), 0)


# -- view: read from the start → the sentinel → the end --------------------------------------------------------


async def test_view(path: Path) -> None:
    """Read anew, before the sentinel is there: nothing is matched yet, and nothing is lost."""
    await cancel_others()
    for outgoing in await an_incomplete_topic(path):
        path.kafka.append(outgoing)
    batch = publish_events(path)
    handling = asyncio.ensure_future(path.fan_out.handle(batch))
    await quiet()
    assert not handling.done()
    assert path.deliveries() == []
    await path.crash()
    await path.fan_out.handle(batch)
    await quiet()
    assert (lost(path), doubled(path)) == (set(), 0)


async def an_incomplete_topic(path: Path) -> Sequence[Outgoing]:
    """A webhook's record, as `publish` left it when it died before its first sentinel."""
    path.outbox.put(webhook())
    publish = Publish(
        path.outbox, FakeLease(), path.kafka, CODEC, path.telemetry, FakeEncryptionCheck(), path.clock, lambda: "first"
    )
    [due] = await path.outbox.due(10)
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
async def test_deliver(path: Path, port: str, method: str, after: bool, at_most_doubled: int) -> None:
    await path.register(webhook())
    await path.die(port, method, after=after)

    async def deliver() -> None:
        await path.fan_out.handle(publish_events(path))
        await asyncio.Event().wait()

    await die(path, deliver)
    assert lost(path) == set()
    assert doubled(path) <= at_most_doubled
    assert len({request.body for request in path.sender.requests}) == 3
    assert {delivery_state.state for delivery_state in path.recorder.delivery_states.values()} == {State.DELIVERED}
    assert len(path.recorder.attempts) == 3


@pytest.mark.parametrize("after", [BEFORE, AFTER], ids=["failed → the tier", "the tier → complete"])
async def test_deliver_to_a_tier(path: Path, after: bool) -> None:
    path.sender.responses(URL, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, BROKEN, Response(200, {}))
    await path.register(webhook())
    await path.die("deliver.log", "produce", after=after)

    async def deliver() -> None:
        await path.fan_out.handle(publish_events(path))
        await asyncio.Event().wait()

    await die(path, deliver)
    for tier in SCHEDULE.tiers:
        await path.wait_out(tier)
    assert lost(path) == set()
    # Twins of an attempt have its id; each of them is visible once.
    assert len(path.recorder.attempts) == len({attempt.id for attempt in path.recorder.attempts.values()})
    assert {delivery_state.state for delivery_state in path.recorder.delivery_states.values()} <= {
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
async def test_record(path: Path, port: str, method: str, after: bool) -> None:
    path.sender.responses(URL, BROKEN)
    await path.register(webhook())
    await path.die(port, method, after=after)

    async def record() -> None:
        await path.fan_out.handle([path.publish_event(event())])
        await asyncio.Event().wait()

    await die(path, record)
    assert path.delivery_state().state is State.WAITING
    assert len(path.recorder.attempts) == 1
    # A failure that is read twice is one failure.
    assert path.recorder.health["wh_crm"].failures == 1


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
async def test_publish(path: Path, port: str, method: str, after: bool, written_twice: int) -> None:
    await cancel_others()
    path.outbox.put(webhook())
    path.dying[port] = method, after
    path.start()
    await die(path, asyncio.Event().wait)
    written = [record for record in path.kafka.topic(SUBSCRIPTIONS) if record.key == b"wh_crm"]
    assert len(written) <= 1 + written_twice
    assert path.table.find("wh_crm") is not None
    assert path.table.table.is_complete()
    assert await path.outbox.due(10) == []


# -- held drain: read what is held → produce → acknowledged → recorded ---------------------------------------------


async def test_held_drain_between_two_bites(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release_held_module, "SMALLEST_CHUNK", 1)
    await path.register(paused())
    await path.happen(*EVENTS)
    await path.register(webhook(status=Status.ACTIVE))
    await path.die("drain.log", "produce", after=True)
    await die(path, path.drain.cycle)
    assert len([one for one in path.deliveries(DELIVERIES) if one.step > 1]) == 1
    await path.drain.cycle()
    await quiet()
    assert lost(path) == set()
    assert doubled(path) <= 1
    assert {delivery_state.state for delivery_state in path.recorder.delivery_states.values()} == {State.DELIVERED}


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
async def test_held_drain(path: Path, port: str, method: str, after: bool, at_most_doubled: int) -> None:
    await path.register(paused())
    await path.happen(*EVENTS)
    assert len(path.kafka.topic(HELD)) == 3
    await path.register(webhook(status=Status.ACTIVE))
    await path.die(port, method, after=after)
    await die(path, path.drain.cycle)
    await path.drain.cycle()
    await quiet()
    assert lost(path) == set()
    assert doubled(path) <= at_most_doubled
    assert {delivery_state.state for delivery_state in path.recorder.delivery_states.values()} == {State.DELIVERED}
    # Whatever was sent on twice is the same record: same generation, same step.
    sent_on = [one for one in path.deliveries(DELIVERIES) if one.step > 1]
    assert len({(one.id, one.generation, one.step) for one in sent_on}) == 3
    assert {one.first_seen_at for one in sent_on} == {NOON}
