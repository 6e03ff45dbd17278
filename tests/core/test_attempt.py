"""Attempts and dead letters carry the ids of their delivery."""

from datetime import timedelta

from builders import NOON, attempt, delivery
from streams.core.deliveries.delivery import HoldReason


def test_an_attempt_has_the_ids_of_its_delivery() -> None:
    assert attempt().delivery_id == delivery().id


def test_a_repeated_attempt_has_the_same_id() -> None:
    first = attempt()
    repeated = attempt(started_at=NOON + timedelta(minutes=1), ended_at=NOON + timedelta(minutes=1), status=500)
    assert repeated.id == first.id


def test_another_attempt_or_a_replay_has_another_id() -> None:
    assert len({attempt().id, attempt(number=2).id, attempt(generation=2).id}) == 3


def test_the_duration_is_from_start_to_end() -> None:
    assert attempt(ended_at=NOON + timedelta(seconds=1.25)).milliseconds == 1250


def test_the_next_record_keeps_id_and_body_and_raises_the_step() -> None:
    owed = delivery()
    for following in (
        owed.to_retry(),
        owed.to_fallback(is_attempted=True),
        owed.to_held(HoldReason.BUSY, None, is_attempted=False),
        owed.to_final(is_attempted=False),
    ):
        assert following.step == owed.step + 1
        assert (following.id, following.body) == (owed.id, owed.body)
        assert following.attempt_id != owed.attempt_id or following.attempt == owed.attempt
