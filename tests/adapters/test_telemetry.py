"""The exposed metrics equal those of prometheus_client's own classes."""

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from streams.log_lines import RepeatedLineFilter
from streams.metrics import COUNTERS, FAST_BUCKETS, GAUGES, HISTOGRAMS, KNOWN_VALUES, NAMESPACE, SLOW_BUCKETS
from streams.telemetry import PrometheusTelemetry

# At the bound of a bucket, on both sides of it, and beyond the last one.
SECONDS = st.sampled_from([*FAST_BUCKETS, *SLOW_BUCKETS, 0.0, 0.00499, 0.00501, 21600.5]) | st.floats(0, 1e6)
WORDS = st.sampled_from(["delivered", "timeout", 'a "quoted" word', "back\\slash", "two\nlines"])


class LibraryMetrics:
    """The same metrics by prometheus_client's own classes."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        known: dict[str, Any] = {"namespace": NAMESPACE, "registry": self.registry}
        self.counters = {name: Counter(name, message, labels, **known) for name, (message, labels) in COUNTERS.items()}
        for name, values in KNOWN_VALUES.items():
            for value in values:
                self.counters[name].labels(value)
        self.gauges = {name: Gauge(name, message, labels, **known) for name, (message, labels) in GAUGES.items()}
        self.histograms = {
            name: Histogram(name, message, buckets=bounds, **known) for name, (message, bounds) in HISTOGRAMS.items()
        }


def exposed(registry: CollectorRegistry) -> list[str]:
    """The exposed text, without the creation times of the library's metrics."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


@given(
    outcomes=st.lists(st.tuples(WORDS, st.integers(1, 5))),
    events=st.integers(0, 3),
    classes=st.dictionaries(WORDS, st.floats(0, 1e9)),
    observed=st.lists(st.tuples(st.sampled_from([*HISTOGRAMS]), SECONDS)),
)
def test_a_scrape_equals_that_of_the_library(
    outcomes: list[tuple[str, int]], events: int, classes: dict[str, float], observed: list[tuple[str, float]]
) -> None:
    telemetry, library = PrometheusTelemetry("deliver"), LibraryMetrics()
    for outcome, amount in outcomes:
        telemetry.count("attempts_total", amount, outcome=outcome)
        library.counters["attempts_total"].labels(outcome=outcome).inc(amount)
    for _ in range(events):
        telemetry.count("deliveries_created_total")
        library.counters["deliveries_created_total"].inc()
    for endpoint_class, held in classes.items():
        telemetry.gauge("slots_in_use", held, endpoint_class=endpoint_class)
        library.gauges["slots_in_use"].labels(endpoint_class=endpoint_class).set(held)
    for name, seconds in observed:
        telemetry.observe(name, seconds)
        library.histograms[name].observe(seconds)
    assert exposed(telemetry.registry) == exposed(library.registry)


def test_counters_start_at_zero() -> None:
    assert f"{NAMESPACE}_produce_errors_total 0.0" in exposed(PrometheusTelemetry("fan-out").registry)


def test_counters_of_known_labels_start_at_zero() -> None:
    # An alert on an increase would miss the first one otherwise.
    lines = exposed(PrometheusTelemetry("deliver").registry)
    assert f'{NAMESPACE}_dead_letters_total{{reason="exhausted"}} 0.0' in lines
    assert f'{NAMESPACE}_attempts_total{{outcome="forbidden_address"}} 0.0' in lines


def test_a_metric_takes_its_declared_labels_only() -> None:
    telemetry = PrometheusTelemetry("deliver")
    with pytest.raises(ValueError, match="attempts_total has the labels"):
        telemetry.count("attempts_total", kind="delivered")
    with pytest.raises(ValueError, match="slots_waiting has the labels"):
        telemetry.gauge("slots_waiting", 1, endpoint_class="healthy")
    with pytest.raises(KeyError):
        telemetry.count("attempts")


# -- the lines of other libraries ------------------------------------------------------------------------------


def line(second: float, text: str, *values: object, **more: Any) -> logging.LogRecord:
    record = logging.makeLogRecord(
        {"name": "librdkafka", "levelno": logging.ERROR, "msg": text, "args": values, **more}
    )
    record.created = second
    return record


def shown(*lines: logging.LogRecord) -> list[str]:
    sparing = RepeatedLineFilter()
    return [record.getMessage() for record in lines if sparing.filter(record)]


def test_lines_that_differ_in_numbers_are_rate_limited() -> None:
    refused = [line(second / 20, "%s refused (after %dms)", "broker-1:9092", second) for second in range(2400)]
    assert shown(*refused) == [
        "broker-1:9092 refused (after 0ms)",
        "broker-1:9092 refused (after 1ms)",
        "broker-1:9092 refused (after 2ms)",
        "broker-1:9092 refused (after 1200ms) (1197 similar lines were dropped)",
        "broker-1:9092 refused (after 1201ms)",
        "broker-1:9092 refused (after 1202ms)",
    ]


def test_lines_that_differ_in_words_or_level_are_all_shown() -> None:
    lines = [line(0, f"broker {name} refused", levelno=level) for name in "abcdef" for level in (30, 40)]
    assert len(shown(*lines)) == 12


@pytest.mark.parametrize("more", [{"name": "faust"}, {"exc_info": (ValueError, ValueError("a"), None)}])
def test_other_loggers_and_tracebacks_are_not_rate_limited(more: dict[str, Any]) -> None:
    assert len(shown(*(line(0, "task failed", **more) for _ in range(10)))) == 10


def test_a_clock_that_is_set_back_hides_nothing() -> None:
    assert len(shown(*(line(second, "broker refused") for second in (7200, 7201, 7202, 7203, 3600)))) == 4


def test_a_line_with_a_format_error_is_left_to_the_handler() -> None:
    assert RepeatedLineFilter().filter(line(0, "after %d ms", "soon"))


def test_lines_that_never_repeat_are_not_remembered_for_ever() -> None:
    sparing = RepeatedLineFilter()
    for number in range(10_000):
        sparing.filter(line(0, "session " + "".join(chr(97 + int(digit)) for digit in str(number))))
    assert len(sparing.seen) <= 1000
