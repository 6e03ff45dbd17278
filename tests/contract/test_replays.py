"""People replay deliveries, and discard dead letters."""

from dataclasses import replace
from datetime import timedelta

import pytest

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import Store, publish_all
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, State, Trigger
from streams.core.deliveries.delivery_state import DeliveryState, RecordedValue, merge_records
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import Unavailable
from streams.core.limits import MAX_RETRIES_PER_DELIVERY

DEAD = DeliveryFilter(state=State.DEAD)


def dead(number: int, reason: DeathReason = DeathReason.EXHAUSTED) -> DeadLetter:
    """Event `number`, a dead letter. Lower numbers are older."""
    dead = delivery(event_id=f"evt_{number}", first_seen_at=NOON + timedelta(seconds=number), step=7, attempt=7)
    return dead_letter(delivery=dead, reason=reason)


async def record(store: Store, *values: Delivery | Attempt | DeadLetter) -> None:
    await store.recorder.record(merge_records(RecordedValue(value, NOON) for value in values))


async def state(store: Store, delivery_id: str) -> DeliveryState:
    seen = await store.delivery_log.find(delivery_id)
    assert seen is not None
    return seen.delivery_state


async def test_a_replayed_dead_letter_starts_a_new_generation(store: Store) -> None:
    await publish_all(store)
    letter = dead(1)
    await record(store, letter)
    assert await store.replays.replay(DEAD) == [letter.delivery.id]
    now = await state(store, letter.delivery.id)
    assert (now.state, now.reason, now.generation, now.step) == (State.HELD, HoldReason.REPLAY, 2, 1)
    [held] = await store.held.oldest("wh_crm", 10)
    assert (held.delivery.attempt, held.delivery.target_attempt) == (1, 1)
    assert (held.delivery.trigger, held.delivery.body) == (Trigger.MANUAL, letter.delivery.body)


async def test_records_of_the_old_generation_change_nothing_any_more(store: Store) -> None:
    letter = dead(1)
    await record(store, letter)
    await store.replays.replay(DEAD)
    await record(store, replace(letter, delivery=letter.delivery._replace(step=99)))
    assert (await state(store, letter.delivery.id)).state is State.HELD


async def test_delivered_and_waiting_deliveries_can_be_replayed(store: Store) -> None:
    await record(store, delivery(event_id="evt_1"), attempt(event_id="evt_1"))
    waits = attempt(event_id="evt_2", next_step=NextStep.TIER, tier="30s", outcome=OutcomeKind.TIMEOUT)
    await record(store, delivery(event_id="evt_2"), waits)
    for event_id in ("evt_1", "evt_2"):
        assert len(await store.replays.replay(DeliveryFilter(event_id=event_id))) == 1
        assert await store.replay_lookup.newest_generation(delivery(event_id=event_id).id) == 2


async def test_held_test_and_deleted_deliveries_are_not_replayed(store: Store) -> None:
    await record(store, delivery(event_id="evt_1").to_held(HoldReason.BUSY, None, is_attempted=False))
    await record(
        store, delivery(event_id="evt_2", trigger=Trigger.TEST), attempt(event_id="evt_2", trigger=Trigger.TEST)
    )
    assert await store.replays.replay(DeliveryFilter()) == []
    await record(store, dead(3))
    await store.webhooks.change("wh_crm", lambda known: None)
    assert await store.replays.replay(DEAD) == []


async def test_a_delivery_is_replayed_a_limited_number_of_times(store: Store) -> None:
    last = dead(1).delivery._replace(generation=MAX_RETRIES_PER_DELIVERY)
    await record(store, replace(dead(1), delivery=last))
    assert await store.replays.replay(DEAD) == [last.id]
    again = last._replace(generation=MAX_RETRIES_PER_DELIVERY + 1)
    await record(store, replace(dead(1), delivery=again))
    assert (await state(store, last.id)).state is State.DEAD
    assert await store.replays.replay(DEAD) == []


async def test_only_those_that_match_are_sent_again_the_oldest_first(store: Store) -> None:
    await record(store, dead(3), dead(1), dead(2, DeathReason.GONE))
    exhausted = replace(DEAD, reason=DeathReason.EXHAUSTED)
    assert await store.replays.replay(replace(exhausted, limit=1)) == [dead(1).delivery.id]
    assert await store.replays.replay(replace(DEAD, ids=["unknown"])) == []
    assert await store.replays.replay(replace(DEAD, ids=[dead(2).delivery.id])) == [dead(2).delivery.id]
    assert await store.replays.replay(exhausted) == [dead(3).delivery.id]


async def test_only_dead_letters_are_discarded(store: Store) -> None:
    await record(store, dead(1), delivery(event_id="evt_2"))
    assert await store.replays.discard(DeliveryFilter()) == [dead(1).delivery.id]
    await record(store, dead(1))
    assert (await state(store, dead(1).delivery.id)).state is State.DISCARDED
    assert await store.replays.discard(DeliveryFilter()) == []


async def test_the_newest_generation_of_known_deliveries_is_found(store: Store) -> None:
    letters = [dead(number) for number in range(5)]
    await record(store, *letters)
    await store.replays.replay(replace(DEAD, ids=[letters[0].delivery.id]))
    asked = [store.replay_lookup.newest_generation(letter.delivery.id) for letter in letters]
    assert [await response for response in asked] == [2, 1, 1, 1, 1]
    assert await store.replay_lookup.newest_generation("unknown") is None


async def test_a_database_outage_delays_no_delivery(away: Store) -> None:
    for work in (away.replays.replay(DEAD), away.replays.discard(DEAD)):
        with pytest.raises(Unavailable):
            await work
    assert await away.replay_lookup.newest_generation("some") is None
