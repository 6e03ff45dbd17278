"""Charts show every attempt of their hours, within their frame."""

from collections import Counter
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from api.shell.assets import text_color_on
from api.webhooks.charts import HEIGHT, LABEL_HEIGHT, WIDTH, attempts_chart, times_chart
from builders import NOON
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook_stats import BUCKETS_MS, HourlyAttempts, ResponseTimes

HOURS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(OutcomeKind), st.integers(1, 10**9)),
    max_size=60,
    unique_by=lambda one: one[:2],
)


def hour_of(back: int, outcome: OutcomeKind, attempts: int) -> HourlyAttempts:
    start = NOON - timedelta(hours=back)
    return HourlyAttempts("wh_1", start, outcome, attempts, 0.0, 0.0, start)


@given(HOURS)
def test_bars_have_all_attempts_of_a_day_and_fit(made: list[tuple[int, OutcomeKind, int]]) -> None:
    chart = attempts_chart([hour_of(*one) for one in made], NOON + timedelta(minutes=59))
    recent = [one for one in made if one[0] < 24]
    assert chart.delivered + chart.failed == sum(attempts for _, _, attempts in recent)
    assert chart.delivered == sum(attempts for _, outcome, attempts in recent if outcome is OutcomeKind.DELIVERED)
    assert dict(chart.failures) == Counter(
        {
            kind: sum(attempts for _, outcome, attempts in recent if outcome is kind)
            for kind in {outcome for _, outcome, _ in recent} - {OutcomeKind.DELIVERED}
        }
    )
    assert len(chart.bars) == 24
    for bar in chart.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        assert (bar.failed_height >= 2) is bool(bar.failed)
        assert (bar.delivered_height >= 2) is bool(bar.delivered)
        assert -2.1 <= bar.failed_y <= bar.delivered_y + 0.1
        assert bar.delivered_y + bar.delivered_height <= HEIGHT - LABEL_HEIGHT + 0.2


@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(BUCKETS_MS), st.integers(1, 10**6)),
        max_size=60,
        unique_by=lambda one: one[:2],
    )
)
def test_lines_of_response_times_fit(made: list[tuple[int, int, int]]) -> None:
    times = [ResponseTimes("wh_1", NOON - timedelta(hours=back), upper, count) for back, upper, count in made]
    chart = times_chart(times, {}, NOON)
    assert {point.hour for point in chart.points} == {one.hour for one in times if NOON - one.hour < timedelta(days=1)}
    for point in chart.points:
        assert 0 <= point.x <= WIDTH
        assert 0 <= point.p95_y <= point.p50_y <= HEIGHT - LABEL_HEIGHT
        assert point.p50 <= point.p95


def test_a_chart_of_nothing_is_empty() -> None:
    assert attempts_chart([], NOON).most == 0
    assert times_chart([], {}, NOON).points == []


def test_the_text_of_a_button_is_easy_to_read() -> None:
    assert text_color_on("#1f5fbf") == text_color_on("#000000") == "#fff"
    assert text_color_on("#ffcc00") == text_color_on("#ffffff") == "#000"
