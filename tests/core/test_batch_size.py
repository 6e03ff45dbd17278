"""Portions that take about 50 ms, and the rest after them."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from streams.core.batch_size import (
    MAX_BATCH_ROWS,
    MAX_THROTTLED_BACKLOG_AGE,
    MIN_BATCH_ROWS,
    TARGET_SECONDS,
    BatchSize,
    throttle_seconds,
)

seconds = st.floats(0, 1e6)


@given(st.lists(st.tuples(st.integers(0, MAX_BATCH_ROWS), seconds), max_size=50))
def test_a_portion_stays_between_its_bounds(measured: list[tuple[int, float]]) -> None:
    size = BatchSize()
    for rows, took in measured:
        following = size.adapt(min(rows, size.rows), took)
        assert MIN_BATCH_ROWS <= following.rows <= MAX_BATCH_ROWS
        assert following.rows <= 2 * size.rows
        assert following.rows >= size.rows // 2
        size = following


@given(st.floats(0, 0.02), st.floats(5e-6, 1e-4), st.integers(MIN_BATCH_ROWS, MAX_BATCH_ROWS))
def test_portions_soon_take_about_50_ms(fixed: float, each: float, rows: int) -> None:
    """On a database whose statements take a fixed time and a time for each row."""
    size = BatchSize(rows)
    for _ in range(12):
        size = size.adapt(size.rows, fixed + each * size.rows)
    took = fixed + each * size.rows
    assert size.rows == MIN_BATCH_ROWS or took <= 1.2 * TARGET_SECONDS
    assert size.rows == MAX_BATCH_ROWS or took >= 0.8 * TARGET_SECONDS


@given(st.integers(MIN_BATCH_ROWS, MAX_BATCH_ROWS), st.floats(0, TARGET_SECONDS))
def test_the_last_rows_do_not_change_the_portion(rows: int, took: float) -> None:
    assert BatchSize(rows).adapt(rows - 1, took) == BatchSize(rows)


@given(seconds)
def test_others_have_half_of_the_time_until_it_falls_behind(took: float) -> None:
    late = MAX_THROTTLED_BACKLOG_AGE + timedelta(seconds=1)
    assert throttle_seconds(took, timedelta(), is_only_writer=False) == took
    assert throttle_seconds(took, MAX_THROTTLED_BACKLOG_AGE, is_only_writer=False) == took
    assert throttle_seconds(took, late, is_only_writer=False) == 0
    assert throttle_seconds(took, late, is_only_writer=True) == took
