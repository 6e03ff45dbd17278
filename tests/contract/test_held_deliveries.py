"""Held deliveries are released as the end of their pause decided."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, attempt, delivery
from contract.stores import Store, publish_all
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import RecordedValue, merge_records
from streams.core.deliveries.held import HeldChoice, ReleaseProgress
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Unavailable
from streams.core.webhooks.webhook import Pause, PauseReason, Registration, Status


def held(number: int, pause_id: str | None = "pause_1", **changes: object) -> Delivery:
    """Event `number`, held after two attempts. Lower numbers are older."""
    first = delivery(event_id=f"evt_{number}", first_seen_at=NOON + timedelta(seconds=number), **changes)
    reason = HoldReason.PAUSED if pause_id else HoldReason.BUSY
    return first.to_retry().to_retry().to_held(reason, pause_id, is_attempted=False)


async def record(store: Store, *deliveries: Delivery) -> None:
    await store.recorder.record(merge_records(RecordedValue(one, NOON) for one in deliveries))


async def change(store: Store, choice: HeldChoice = HeldChoice.DELIVER, **changes: object) -> None:
    def changed(known: Registration) -> Registration:
        return replace(known, webhook=replace(known.webhook, **changes))  # type: ignore[arg-type]

    await store.webhooks.change("wh_crm", changed, choice)


async def pause(store: Store, pause_id: str = "pause_1") -> None:
    await change(store, status=Status.PAUSED, pause=Pause(pause_id, PauseReason.MANUAL))
    await publish_all(store)


async def enable(store: Store, choice: HeldChoice = HeldChoice.DELIVER) -> None:
    await change(store, choice, status=Status.ACTIVE, pause=None)
    await publish_all(store)


async def leaving(store: Store, limit: int = 100) -> Sequence[tuple[str, HeldChoice]]:
    return [(one.delivery.event_id, one.choice) for one in await store.held.oldest("wh_crm", limit)]


async def test_while_the_webhook_is_paused_nothing_leaves(store: Store) -> None:
    await pause(store)
    await record(store, held(1))
    assert await store.held.webhooks() == {}
    assert await leaving(store) == []


async def test_held_deliveries_wait_until_the_webhook_is_published(store: Store) -> None:
    await pause(store)
    await record(store, held(1))
    await change(store, status=Status.ACTIVE, pause=None)
    assert await store.held.webhooks() == {}
    await publish_all(store)
    assert await store.held.webhooks() == {"wh_crm": 0}


async def test_the_oldest_are_released_first_up_to_the_limit(store: Store) -> None:
    await publish_all(store)
    await record(store, *(held(number, None) for number in (3, 1, 2)))
    assert [event_id for event_id, _ in await leaving(store)] == ["evt_1", "evt_2", "evt_3"]
    assert [event_id for event_id, _ in await leaving(store, limit=2)] == ["evt_1", "evt_2"]


@pytest.mark.parametrize("choice", HeldChoice)
async def test_late_arrivals_get_the_choice_of_their_pause(store: Store, choice: HeldChoice) -> None:
    await pause(store)
    await record(store, held(1))
    await enable(store, choice)
    await record(store, held(2))
    assert await leaving(store) == [("evt_1", choice), ("evt_2", choice)]


async def test_each_pause_has_its_own_choice_when_it_has_ended(store: Store) -> None:
    await pause(store, "pause_1")
    await enable(store, HeldChoice.DISCARD)
    await pause(store, "pause_2")
    await enable(store, HeldChoice.KEEP)
    await pause(store, "pause_3")
    await record(store, held(1, "pause_1"), held(2, "pause_2"), held(3, "pause_3"), held(4, None))
    expected = [("evt_1", HeldChoice.DISCARD), ("evt_2", HeldChoice.KEEP), ("evt_4", HeldChoice.DELIVER)]
    assert await leaving(store) == expected


async def test_held_deliveries_of_a_deleted_webhook_are_released(store: Store) -> None:
    await pause(store)
    await record(store, held(1))
    await store.webhooks.change("wh_crm", lambda known: None)
    assert await store.held.webhooks() == {}
    await publish_all(store)
    assert await store.held.webhooks() == {"wh_crm": 0}
    assert await leaving(store) == [("evt_1", HeldChoice.DELIVER)]


async def test_an_automatic_pause_holds_until_it_is_ended(store: Store) -> None:
    await publish_all(store)
    failures = [
        attempt(
            event_id=f"evt_{second}",
            outcome=OutcomeKind.SERVER_ERROR,
            next_step=NextStep.TIER,
            tier="30s",
            started_at=NOON + timedelta(seconds=second),
            ended_at=NOON + timedelta(seconds=second),
        )
        for second in range(5)
    ]
    await store.recorder.record(merge_records(RecordedValue(failure, NOON) for failure in failures))
    [known] = await store.webhooks.list()
    automatic = known.pause
    assert automatic is not None
    await publish_all(store)
    await record(store, held(9, automatic.id))
    assert await leaving(store) == []
    await enable(store, HeldChoice.KEEP)
    assert await leaving(store) == [("evt_9", HeldChoice.KEEP)]


async def test_a_delivery_leaves_as_it_came(store: Store) -> None:
    await publish_all(store)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    one = held(1, None, trace_parent=trace)
    await record(store, one)
    [found] = await store.held.oldest("wh_crm", 1)
    assert found.delivery._replace(subscriptions_position=one.subscriptions_position) == one
    assert (found.delivery.attempt, found.delivery.target_attempt) == (3, 3)


async def test_a_released_delivery_is_under_way_until_its_attempt(store: Store) -> None:
    await publish_all(store)
    one, two, three = (held(number, None) for number in (1, 2, 3))
    await record(store, one, two, three)
    await record(store, one.to_released(), two.to_released())
    # Deliveries of fan-out, and those in a tier, are not.
    await record(store, delivery(event_id="evt_new"))
    tier = attempt(event_id="evt_tier", next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)
    await store.recorder.record(merge_records([RecordedValue(tier, NOON)]))
    assert await store.held.webhooks() == {"wh_crm": 2}
    done = attempt(event_id="evt_1", step=one.step + 2, number=3)
    await store.recorder.record(merge_records([RecordedValue(done, NOON)]))
    assert await store.held.webhooks() == {"wh_crm": 1}
    assert await leaving(store) == [("evt_3", HeldChoice.DELIVER)]


async def test_the_progress_of_deliveries_is_found_by_id(store: Store) -> None:
    one = held(1)
    await record(store, one)
    found = await store.held.progress([one.id, "unknown"])
    assert found == [ReleaseProgress(one.id, State.HELD, one.generation, one.step)]


async def test_a_database_that_is_away_says_so(away: Store) -> None:
    for work in (away.held.webhooks(), away.held.oldest("wh_crm", 1), away.held.progress(["some"])):
        with pytest.raises(Unavailable):
            await work
