"""The state of a delivery does not depend on the order or the number of its records."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON, attempt, dead_letter, delivery
from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, State
from streams.core.deliveries.delivery_state import (
    Batch,
    DeliveryState,
    RecordedEvent,
    RecordedValue,
    delivery_state_of,
    merge_records,
    strip_details,
)
from streams.core.deliveries.outcome import OutcomeKind

RETRIED = attempt(
    outcome=OutcomeKind.SERVER_ERROR,
    message="The endpoint responded with 500.",
    status=500,
    next_step=NextStep.TIER,
    tier="30s",
)


def entry(value: Delivery | Attempt | DeadLetter) -> RecordedValue:
    return RecordedValue(value, NOON)


def delivery_state(value: Delivery | Attempt | DeadLetter) -> DeliveryState:
    found = delivery_state_of(entry(value))
    assert found is not None
    return found


# -- the state of a record --------------------------------------------------------------------------------------


def test_a_new_delivery_waits_and_is_due_at_once() -> None:
    new = delivery_state(delivery())
    assert (new.state, new.attempts, new.due_at, new.tier) == (State.WAITING, 0, NOON, None)


def test_a_retry_waits_for_its_tier() -> None:
    waiting = delivery_state(RETRIED)
    assert (waiting.state, waiting.attempts, waiting.tier) == (State.WAITING, 1, "30s")
    assert waiting.due_at == NOON + timedelta(seconds=30)
    assert waiting.message == "The endpoint responded with 500."


def test_a_delivered_attempt_is_a_delivered_delivery() -> None:
    done = delivery_state(attempt(number=3))
    assert (done.state, done.attempts, done.due_at) == (State.DELIVERED, 3, None)


@pytest.mark.parametrize("reason", list(HoldReason))
def test_a_held_delivery_says_why(reason: HoldReason) -> None:
    held = delivery_state(delivery().to_held(reason, "pause_1", is_attempted=False))
    assert (held.state, held.reason, held.pause_id) == (State.HELD, reason, "pause_1")
    assert held.message


def test_a_probe_that_waits_belongs_to_its_pause() -> None:
    """While it waits, no other probe of the pause is sent."""
    held = delivery().to_held(HoldReason.PAUSED, "pause_1", is_attempted=False)
    probe = delivery_state(held.to_probe("pause_1"))
    assert (probe.state, probe.pause_id) == (State.WAITING, "pause_1")


def test_a_dead_letter_has_a_reason_and_the_last_message() -> None:
    dead = delivery_state(dead_letter())
    assert (dead.state, dead.reason, dead.attempts) == (State.DEAD, DeathReason.EXHAUSTED, 6)
    assert dead.message == "The endpoint responded with 500: its server failed."


@pytest.mark.parametrize("next_step", [NextStep.FALLBACK, NextStep.HELD, NextStep.DEAD])
def test_an_attempt_followed_by_a_record_has_no_state(next_step: NextStep) -> None:
    assert delivery_state_of(entry(attempt(outcome=OutcomeKind.TIMEOUT, next_step=next_step))) is None


def test_attempt_and_delivery_have_the_same_delivery_id() -> None:
    assert delivery_state(attempt()).delivery_id == delivery_state(delivery()).delivery_id == delivery().id


RecordValue = Delivery | Attempt | DeadLetter
RECORDED_VALUES: list[RecordValue] = [
    delivery(),
    delivery(hold_reason=HoldReason.PAUSED, pause_id="pause_1"),
    dead_letter(),
    RETRIED,
    attempt(next_step=NextStep.HELD, outcome=OutcomeKind.TIMEOUT),
]


def at(value: RecordValue, webhook: str, generation: int, step: int) -> RecordedValue:
    if isinstance(value, DeadLetter):
        inner = value.delivery._replace(webhook_id=webhook, generation=generation, step=step)
        return entry(replace(value, delivery=inner))
    return entry(value._replace(webhook_id=webhook, generation=generation, step=step))


# -- order of states -----------------------------------------------------------------------------------------


def test_a_later_step_supersedes_an_earlier_one() -> None:
    early, late = delivery_state(delivery()), delivery_state(RETRIED)
    assert late.supersedes(early)
    assert not early.supersedes(late)
    assert not late.supersedes(late)


def test_delivered_ends_its_generation_at_any_step() -> None:
    delivered, later = delivery_state(attempt(step=2)), delivery_state(delivery(step=9))
    assert delivered.supersedes(later)
    assert not later.supersedes(delivered)


def test_a_replay_begins_a_new_generation() -> None:
    delivered, replayed = delivery_state(attempt()), delivery_state(delivery(generation=2))
    assert replayed.supersedes(delivered)
    assert not delivered.supersedes(replayed)


def test_delivered_twice_is_delivered_in_either_order() -> None:
    once, twice = entry(attempt(step=2)), entry(attempt(step=3, number=2))
    for entries in ([once, twice], [twice, once]):
        (found,) = merge_records(entries).delivery_states
        assert found.state is State.DELIVERED


@given(st.sampled_from(RECORDED_VALUES), st.sampled_from(RECORDED_VALUES), st.integers(1, 3), st.integers(1, 6))
def test_the_record_of_fan_out_supersedes_nothing(
    value: RecordValue, other: RecordValue, generation: int, step: int
) -> None:
    first = delivery_state_of(at(value, "wh_a", 1, 1))
    known = delivery_state_of(at(other, "wh_a", generation, step))
    if first is not None and known is not None:
        assert first.is_first
        assert not first.supersedes(known)


# -- records of a batch -------------------------------------------------------------------------------------------


def test_a_batch_has_every_attempt_and_each_body_once() -> None:
    batch = merge_records([entry(delivery()), entry(RETRIED), entry(dead_letter())])
    assert batch.attempts == (RETRIED,)
    owed = delivery()
    recorded = RecordedEvent(NOON, owed.body, None, owed.subjects, owed.event_hash)
    assert batch.events == {("acme", delivery().event_id): recorded}
    assert [delivery_state.state for delivery_state in batch.delivery_states] == [State.DEAD]


def test_the_same_event_id_of_two_accounts_has_two_bodies() -> None:
    bodies = merge_records([entry(delivery()), entry(delivery(account_id="globex", body=b"{}"))]).events
    assert len(bodies) == 2


def test_no_records_make_an_empty_batch() -> None:
    assert merge_records([]) == Batch()


@st.composite
def histories(draw: st.DrawFn) -> list[RecordedValue]:
    """Records of two deliveries with distinct (generation, step), at most one delivered in a generation."""
    webhooks = st.sampled_from(("wh_a", "wh_b"))
    places = st.lists(st.tuples(webhooks, st.integers(1, 3), st.integers(1, 6)), unique=True, max_size=12)
    entries = []
    delivered = set()
    for webhook, generation, step in draw(places):
        value = draw(st.sampled_from(RECORDED_VALUES))
        if (webhook, generation) not in delivered and draw(st.booleans()):
            delivered.add((webhook, generation))
            value = attempt()
        entries.append(at(value, webhook, generation, step))
    return entries


def delivery_states(batches: Sequence[Batch]) -> dict[str, DeliveryState]:
    """The states that a database has after these batches."""
    known: dict[str, DeliveryState] = {}
    for batch in batches:
        for delivery_state in batch.delivery_states:
            before = known.get(delivery_state.delivery_id)
            if before is None or delivery_state.supersedes(before):
                known[delivery_state.delivery_id] = delivery_state
    return known


@given(histories(), st.data())
def test_order_repeats_and_batches_do_not_matter(entries: list[RecordedValue], data: st.DataObject) -> None:
    again = data.draw(st.lists(st.sampled_from(entries), max_size=6)) if entries else []
    shuffled = data.draw(st.permutations(entries + again))
    cut = data.draw(st.integers(0, len(shuffled)))
    assert delivery_states([merge_records(shuffled[:cut]), merge_records(shuffled[cut:])]) == delivery_states(
        [merge_records(entries)]
    )


# -- refused rows ------------------------------------------------------------------------------------------


def test_a_stripped_attempt_has_no_text_from_outside() -> None:
    bare = strip_details(entry(RETRIED)).value
    assert isinstance(bare, Attempt)
    assert (bare.id, bare.outcome, bare.status, bare.next_step) == (RETRIED.id, RETRIED.outcome, 500, NextStep.TIER)
    assert bare.response_body == b""
    assert bare.response_headers == bare.request_headers == {}
    assert (bare.url, bare.message) == ("", "(server_error; the details could not be stored)")


def test_a_stripped_delivery_is_unchanged() -> None:
    assert strip_details(entry(delivery())) == entry(delivery())
