"""The geometry of charts: bars of attempts by the hour, and lines of response times."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import inf

from streams.core.deliveries.outcome import OutcomeKind
from streams.core.webhooks.webhook_stats import HourlyAttempts, ResponseTimes, percentile_ms

WIDTH, HEIGHT = 720, 124
# The space below the bars, for the hours.
LABEL_HEIGHT = 22
BAR_GAP = 4


@dataclass(frozen=True, slots=True)
class Bar:
    """One hour: its numbers of successful and failed attempts, and its two rectangles, in pixels."""

    hour: datetime
    delivered: int
    failed: int
    x: float
    width: float
    failed_y: float
    failed_height: float
    delivered_y: float
    delivered_height: float

    @property
    def is_labelled(self) -> bool:
        return _is_labelled(self.hour, self.x)


def _is_labelled(hour: datetime, x: float) -> bool:
    # The last hours have no room for a label.
    return hour.hour % 6 == 0 and x < WIDTH - 60


@dataclass(frozen=True, slots=True)
class AttemptsChart:
    """Attempts by the hour, the oldest at the left; `most` is the highest bar.

    `failures` are the failed ones by their outcome, the most frequent first.
    """

    bars: Sequence[Bar]
    most: int
    delivered: int
    failed: int
    failures: Sequence[tuple[str, int]]


def attempts_chart(hours: Sequence[HourlyAttempts], now: datetime, count: int = 24) -> AttemptsChart:
    """The last `count` hours, with the current one at the right."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    starts = [this_hour - timedelta(hours=hours_back) for hours_back in reversed(range(count))]
    counts: dict[datetime, list[int]] = {start: [0, 0] for start in starts}
    failures: Counter[str] = Counter()
    for hour in hours:
        if hour.hour in counts:
            is_failure = hour.outcome != OutcomeKind.DELIVERED
            counts[hour.hour][is_failure] += hour.attempts
            failures[hour.outcome] += hour.attempts * is_failure
    highest = max((sum(pair) for pair in counts.values()), default=0)
    step, plot_height = WIDTH / count, HEIGHT - LABEL_HEIGHT
    bars = []
    for number, start in enumerate(starts):
        delivered_count, failed_count = counts[start]
        delivered_height, failed_height = (
            _height(value, highest, plot_height) for value in (delivered_count, failed_count)
        )
        bars.append(
            Bar(
                start,
                delivered_count,
                failed_count,
                round(number * step + BAR_GAP / 2, 1),
                round(step - BAR_GAP, 1),
                round(plot_height - delivered_height - failed_height, 1),
                failed_height,
                round(plot_height - delivered_height, 1),
                delivered_height,
            )
        )
    delivered_count = sum(bar.delivered for bar in bars)
    by_outcome = [(outcome, number) for outcome, number in failures.most_common() if number]
    return AttemptsChart(bars, highest, delivered_count, failures.total(), by_outcome)


def _height(value: int, highest: int, plot_height: float) -> float:
    """The height of a bar, at least 2 pixels if it has a value: one failure among thousands must be visible."""
    return round(max(2.0, plot_height * value / highest), 1) if value else 0.0


@dataclass(frozen=True, slots=True)
class TimesPoint:
    """The percentiles of one hour in milliseconds, and their positions in pixels."""

    hour: datetime
    p50: float
    p95: float
    x: float
    p50_y: float
    p95_y: float


@dataclass(frozen=True, slots=True)
class HourLabel:
    """A label of the axis."""

    hour: datetime
    x: float


@dataclass(frozen=True, slots=True)
class TimesChart:
    """Response times by the hour; an hour without a response has no point. `most_ms` is the top of the chart."""

    points: Sequence[TimesPoint]
    most_ms: float
    hours: Sequence[HourLabel] = ()

    def line(self, name: str) -> str:
        """The points of a polyline, for `p50_y` or `p95_y`."""
        return " ".join(f"{point.x},{getattr(point, name)}" for point in self.points)


def times_chart(
    times: Sequence[ResponseTimes], slowest_ms: Mapping[datetime, float], now: datetime, count: int = 24
) -> TimesChart:
    """p50 and p95 of the last `count` hours; `slowest_ms` is the slowest response of each hour."""
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    by_hour: dict[datetime, list[ResponseTimes]] = {}
    for time in times:
        by_hour.setdefault(time.hour, []).append(time)
    times_by_hour: Mapping[datetime, tuple[float, ...]] = {
        hour: tuple(percentile_ms(hour_times, share, slowest_ms.get(hour, inf)) or 0.0 for share in (0.5, 0.95))
        for hour, hour_times in by_hour.items()
    }
    highest = max((p95 for _, p95 in times_by_hour.values()), default=0.0) or 1.0
    step, plot_height = WIDTH / count, HEIGHT - LABEL_HEIGHT
    points = []
    for hour, (p50, p95) in sorted(times_by_hour.items()):
        hours_back = (this_hour - hour) // timedelta(hours=1)
        if 0 <= hours_back < count:
            x = round((count - hours_back - 0.5) * step, 1)
            points.append(TimesPoint(hour, p50, p95, x, _y(p50, highest, plot_height), _y(p95, highest, plot_height)))
    labels = [
        HourLabel(this_hour - timedelta(hours=back), (count - 1 - back) * step + BAR_GAP / 2) for back in range(count)
    ]
    return TimesChart(points, highest, [label for label in labels if _is_labelled(label.hour, label.x)])


def _y(value: float, highest: float, plot_height: float) -> float:
    return round(4 + (plot_height - 4) * (1 - value / highest), 1)
