"""What was recorded of deliveries is found again, newest first."""

from datetime import timedelta
from typing import Any

from builders import NOON, attempt, dead_letter, delivery
from contract.stores import Store
from streams.core.account import DeliveryFilter
from streams.core.delivery import State
from streams.core.delivery_state import RecordedValue, StateCount, fold


async def test_deliveries_are_listed_newest_first_and_by_every_filter(store: Store) -> None:
    facts = [
        RecordedValue(delivery(event_id="evt_1", first_seen_at=NOON), NOON),
        RecordedValue(delivery(event_id="evt_2", first_seen_at=NOON + timedelta(seconds=2), webhook_id="wh_lrs"), NOON),
        RecordedValue(delivery(event_id="evt_3", first_seen_at=NOON + timedelta(seconds=1), account_id="other"), NOON),
        RecordedValue(
            dead_letter(delivery=delivery(event_id="evt_4", first_seen_at=NOON - timedelta(seconds=1))), NOON
        ),
    ]
    await store.recorder.record(fold(facts))

    async def listed(**wanted: Any) -> list[str]:
        return [standing.event_id for standing in (await store.log.list(DeliveryFilter(**wanted))).rows]

    assert await listed() == ["evt_2", "evt_3", "evt_1", "evt_4"]
    assert await listed(limit=2) == ["evt_2", "evt_3"]
    assert await listed(account_id="other") == ["evt_3"]
    assert await listed(webhook_id="wh_lrs") == ["evt_2"]
    assert await listed(event_id="evt_1") == ["evt_1"]
    assert await listed(state=State.DEAD) == ["evt_4"]
    assert await listed(account_id="acme", state=State.WAITING) == ["evt_2", "evt_1"]
    assert await listed(account_id="nobody") == []
    assert await store.log.find("no such delivery") is None
    tallies = await store.log.tally()
    assert set(tallies["wh_crm"]) == {
        StateCount(State.WAITING, None, None, 2),
        StateCount(State.DEAD, None, "exhausted", 1),
    }
    assert list(tallies["wh_lrs"]) == [StateCount(State.WAITING, None, None, 1)]


async def test_a_delivery_of_which_only_an_attempt_was_recorded_has_no_body_yet(store: Store) -> None:
    await store.recorder.record(fold([RecordedValue(attempt(), NOON)]))
    seen = await store.log.find(delivery().id)
    assert seen is not None
    assert (seen.standing.state, seen.body, seen.payload) == (State.DELIVERED, None, None)


async def test_a_delivery_is_found_with_its_body_and_every_attempt_oldest_first(store: Store) -> None:
    made = [attempt(number=number, generation=generation) for generation, number in ((2, 1), (1, 2), (1, 1))]
    await store.recorder.record(
        fold([RecordedValue(delivery(), NOON), *(RecordedValue(attempt, NOON) for attempt in made)])
    )
    seen = await store.log.find(delivery().id)
    assert seen is not None
    assert seen.body == delivery().body
    assert [(attempt.generation, attempt.number) for attempt in seen.attempts] == [(1, 1), (1, 2), (2, 1)]
    first = seen.attempts[0]
    assert (first.status, first.outcome, first.words) == (200, "delivered", "The endpoint answered 200.")
    assert (first.request_headers, first.answer_headers) == (attempt().request_headers, attempt().answer_headers)
