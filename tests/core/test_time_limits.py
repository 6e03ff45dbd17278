"""A stop takes as long as an attempt needs, wherever its time is limited."""

import pytest

from streams.core.deliveries.decision import TEST_EXPIRY
from streams.core.deliveries.time_limits import (
    DELIVER_DRAIN_SECONDS,
    MAX_ATTEMPT_SECONDS,
    REQUESTS_DRAIN_SECONDS,
    TimeLimits,
    seconds_until_outcome,
)


def test_the_limits_of_the_default_timeout() -> None:
    limits = TimeLimits(10)
    assert (REQUESTS_DRAIN_SECONDS, DELIVER_DRAIN_SECONDS, limits.drain_seconds) == (1.5, 5, 12)
    assert (limits.stop_seconds, limits.kill_seconds) == (25, 30)


@pytest.mark.parametrize("attempt", [0.1, 2, 10, 10.5, 30, MAX_ATTEMPT_SECONDS])
def test_each_limit_covers_the_one_within(attempt: float) -> None:
    limits = TimeLimits(attempt)
    assert max(attempt, DELIVER_DRAIN_SECONDS) < limits.drain_seconds < limits.stop_seconds < limits.kill_seconds


@pytest.mark.parametrize("attempt", [0.1, 10, MAX_ATTEMPT_SECONDS])
def test_who_waits_for_a_test_sees_the_end_of_its_attempt(attempt: float) -> None:
    assert seconds_until_outcome(attempt) > TEST_EXPIRY.total_seconds() + attempt
