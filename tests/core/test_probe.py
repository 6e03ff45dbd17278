"""When the held events of a paused webhook are tried."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.webhooks.probe import next_probe_at

HOUR = timedelta(hours=1)
elapsed_times = st.timedeltas(timedelta(0), timedelta(days=400))


@pytest.mark.parametrize(("elapsed", "hours"), [(0, 1), (0.99, 1), (1, 6), (6, 24), (23.9, 24), (24, 48), (71, 72)])
def test_probes_come_after_1_6_and_24_hours_then_daily(elapsed: float, hours: int) -> None:
    assert next_probe_at(NOON, NOON + elapsed * HOUR) == NOON + hours * HOUR


@given(elapsed_times)
def test_the_next_probe_is_later_and_within_a_day(elapsed: timedelta) -> None:
    now = NOON + elapsed
    assert now < next_probe_at(NOON, now) <= now + 24 * HOUR
