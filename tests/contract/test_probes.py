"""The database finds due probes, and a probe ends the pause or sets the time of the next one."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, attempt, delivery, paused, webhook
from contract.stores import Store, publish_all
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.held import HeldChoice
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.delivery_options import parse_options
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status

HOUR = timedelta(hours=1)
FAILED = {"outcome": OutcomeKind.SERVER_ERROR, "status": 500, "next_step": NextStep.HELD}


def held(number: int, reason: HoldReason = HoldReason.PAUSED, pause_id: str | None = "pause_1") -> Delivery:
    first = delivery(event_id=f"evt_{number}", first_seen_at=NOON + timedelta(seconds=number))
    return first.to_held(reason, pause_id, is_attempted=False)


async def record(store: Store, *values: Delivery, hours: float = 0) -> None:
    await store.recorder.record(merge_records(RecordedValue(value, NOON + hours * HOUR) for value in values))


async def record_probe(store: Store, probed: Delivery, **changes: object) -> None:
    made = attempt(event_id=probed.event_id, step=probed.step + 1, pause_id=probed.pause_id, **changes)
    await store.recorder.record(merge_records([RecordedValue(made, NOON)]))


async def pause(store: Store, **changes: object) -> None:
    """Pause the webhook at noon; its first probe is due at one o'clock."""

    def change(known: Registration) -> Registration:
        options = parse_options({"resume": "probe"})
        changed = replace(known.webhook, **{"options": options, **changes})  # type: ignore[arg-type]
        return replace(known, webhook=changed, paused_at=NOON, probe_at=NOON + HOUR)

    await store.webhooks.change("wh_crm", change)
    await publish_all(store)


async def due(store: Store, hours: float = 1, excluded: Sequence[str] = ()) -> list[tuple[str, str]]:
    probes = await store.held.due_probes(NOON + hours * HOUR, excluded)
    return [(probe.delivery.event_id, probe.pause_id) for probe in probes]


@pytest.fixture
async def probed(store: Store) -> Store:
    await pause(store, status=Status.PAUSED, pause=Pause("pause_1", PauseReason.FAILURES))
    return store


async def test_the_oldest_held_delivery_is_due_at_its_time(probed: Store) -> None:
    await record(probed, held(2), held(1), held(0, pause_id="pause_0"), held(3, HoldReason.BUSY, None))
    assert await due(probed, 0.99) == []
    assert await due(probed) == [("evt_1", "pause_1")]
    assert await due(probed, excluded=[held(1).id]) == [("evt_2", "pause_1")]
    # Another one each time, and the first again where there is no other.
    assert [await due(probed, hours) for hours in (6, 24, 48)] == [
        *([("evt_2", "pause_1")], [("evt_1", "pause_1")], [("evt_1", "pause_1")]),
    ]


async def test_a_probe_that_was_sent_has_a_time_for_the_next(probed: Store) -> None:
    await record(probed, held(1))
    await probed.held.move_probe("wh_crm", "pause_0", NOON + HOUR)
    assert await due(probed) == [("evt_1", "pause_1")]
    await probed.held.move_probe("wh_crm", "pause_1", NOON + HOUR)
    assert [await due(probed, hours) for hours in (5.9, 6)] == [[], [("evt_1", "pause_1")]]


async def test_no_other_is_due_while_a_probe_is_under_way(probed: Store) -> None:
    await record(probed, held(1), held(2))
    await record(probed, held(1).to_probe("pause_1"), hours=1)
    assert [await due(probed, hours) for hours in (1, 1.9)] == [[], []]
    # It was lost, perhaps with its topic.
    assert await due(probed, 2.1) == [("evt_2", "pause_1")]


async def test_a_webhook_that_is_not_published_yet_has_to_wait(probed: Store) -> None:
    await record(probed, held(1))
    await probed.webhooks.change("wh_crm", lambda known: replace(known, description="changed"))
    assert await due(probed) == []
    await publish_all(probed)
    assert await due(probed) == [("evt_1", "pause_1")]


async def test_a_webhook_with_nothing_held_hides_no_other(probed: Store) -> None:
    other = replace(paused(PauseReason.FAILURES), id="wh_other", pause=Pause("pause_2", PauseReason.FAILURES))
    await probed.webhooks.add(Registration(other, NOON, paused_at=NOON, probe_at=NOON + 2 * HOUR))
    await publish_all(probed)
    await record(probed, held(1, pause_id="pause_2")._replace(webhook_id="wh_other"))
    assert await due(probed, 1.5) == []
    assert await due(probed, 2) == [("evt_1", "pause_2")]


async def test_a_probe_that_succeeds_ends_the_pause(probed: Store) -> None:
    await record(probed, held(1), held(2))
    probe = held(1).to_probe("pause_1")
    await record(probed, probe)
    await record_probe(probed, probe)
    known = await probed.webhooks.find("wh_crm")
    assert known
    assert (known.webhook.status, known.webhook.pause, known.paused_at, known.probe_at) == (
        *(Status.ACTIVE, None, None, None),
    )
    assert known.webhook.health_epoch == webhook().health_epoch + 1
    [change] = await probed.outbox.list_due(10)
    assert change.webhook_id == "wh_crm"
    await publish_all(probed)
    assert [(one.delivery.event_id, one.choice) for one in await probed.held.oldest("wh_crm", 9)] == [
        ("evt_2", HeldChoice.DELIVER)
    ]


async def test_a_probe_that_fails_is_repeated_later(probed: Store) -> None:
    await record(probed, held(1))
    probed.clock.advance(3600)
    probe = held(1).to_probe("pause_1")
    await record(probed, probe)
    await record_probe(probed, probe, started_at=NOON + HOUR, ended_at=NOON + HOUR, **FAILED)
    await record(probed, probe.to_held_after_probe())
    known = await probed.webhooks.find("wh_crm")
    assert known
    assert (known.webhook.status, known.probe_at) == (Status.PAUSED, NOON + 6 * HOUR)
    state = (await probed.delivery_log.find(probe.id) or pytest.fail("no delivery")).delivery_state
    assert (state.state, state.attempts, state.target_attempt) == (State.HELD, 1, 1)


@pytest.mark.parametrize("case", ["earlier pause", "manual", "enabled", "other URL"])
async def test_a_success_after_a_change_of_mind_enables_nothing(probed: Store, case: str) -> None:
    await record(probed, held(1))
    probe = held(1).to_probe("pause_0" if case == "earlier pause" else "pause_1")
    if case == "manual":
        await pause(probed, options=parse_options({}))
    if case == "other URL":
        await pause(probed, health_epoch=7)
    if case == "enabled":
        await pause(probed, status=Status.PAUSED, pause=Pause("pause_2", PauseReason.MANUAL))
    before = await probed.webhooks.find("wh_crm")
    await record_probe(probed, probe)
    after = await probed.webhooks.find("wh_crm")
    assert before
    assert after
    assert after.webhook.pause == before.webhook.pause
    assert after.webhook.status is Status.PAUSED


async def test_a_pause_by_failures_has_the_time_of_its_first_probe(store: Store) -> None:
    def change(known: Registration) -> Registration:
        options = parse_options({"resume": "probe", "pauseAfter": {"failures": 1}})
        return replace(known, webhook=replace(known.webhook, options=options))

    await store.webhooks.change("wh_crm", change)
    store.clock.advance(60)
    made = attempt(**{**FAILED, "next_step": NextStep.TIER}, tier="30s", ended_at=NOON + timedelta(seconds=59))
    await store.recorder.record(merge_records([RecordedValue(made, NOON)]))
    known = await store.webhooks.find("wh_crm")
    assert known
    assert (known.paused_at, known.probe_at) == (store.clock.now(), store.clock.now() + HOUR)
