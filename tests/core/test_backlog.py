"""The age of the oldest uncommitted record, from samples of the end of its partition."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.deliveries.backlog import MAX_SAMPLES, GroupOffsets, LagClock

INTERVAL = 15.0


def at(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def ages(*samples: tuple[float, int, int]) -> list[float]:
    """The answers to samples of (seconds, committed, end)."""
    clock = LagClock()
    return [clock.lag_seconds(GroupOffsets(committed, end), NOON + at(when)) for when, committed, end in samples]


def test_a_group_without_lag_is_zero_seconds_behind() -> None:
    assert ages((0, 5, 5), (15, 9, 9)) == [0, 0]


def test_a_group_that_stands_still_falls_behind() -> None:
    assert ages((0, 5, 5), (15, 5, 8), (30, 5, 12), (45, 5, 12)) == [0, 15, 30, 45]


def test_a_group_that_catches_up_is_as_late_as_its_oldest_record() -> None:
    assert ages((0, 5, 5), (15, 5, 8), (30, 8, 12), (45, 11, 12), (60, 12, 12)) == [0, 15, 15, 30, 0]


def test_a_topic_that_was_made_again_starts_from_zero() -> None:
    assert ages((0, 5, 5), (15, 5, 900), (30, 0, 3), (45, 0, 3)) == [0, 15, 0, 15]


def test_a_long_outage_takes_little_memory_and_forgets_no_age() -> None:
    clock = LagClock()
    for number in range(5 * MAX_SAMPLES):
        age = clock.lag_seconds(GroupOffsets(0, number), NOON + at(number * INTERVAL))
        assert age == number * INTERVAL
    assert len(clock._samples) <= MAX_SAMPLES + 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_an_age_is_at_most_one_interval_too_long(steps: list[tuple[int, int]]) -> None:
    clock, appended, committed = LagClock(), list[float](), 0
    clock.lag_seconds(GroupOffsets(0, 0), NOON)
    for number, (more, done) in enumerate(steps, 1):
        now = number * INTERVAL
        # All of an interval are appended at its end.
        appended += [now] * more
        committed = min(len(appended), committed + done)
        age = clock.lag_seconds(GroupOffsets(committed, len(appended)), NOON + at(now))
        true = now - appended[committed] if committed < len(appended) else None
        assert age == 0 if true is None else true <= age <= true + INTERVAL
