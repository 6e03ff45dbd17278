"""Metrics, structured log lines, and spans."""

import logging
import math
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from itertools import accumulate

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streams.adapters.otel import OtelTracer
from streams.core.events.trace import NonRecordingSpan, SpanName
from streams.metrics import COUNTERS, GAUGES, HISTOGRAMS, KNOWN_VALUES, NAMESPACE
from streams.ports.runtime import Span


class _Histogram:
    """Counts of values by bucket, and their sum."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> Sequence[tuple[str, float]]:
        """Each bucket's upper bound, with the count of values at or below it."""
        return list(zip(map(floatToGoString, (*self.bounds, math.inf)), accumulate(self.counts), strict=True))


class PrometheusTelemetry(Collector):
    """A `Telemetry` with its own registry. An undeclared metric is a programming error.

    Not thread-safe: update metrics only on the event loop. prometheus_client's own metrics are thread-safe, but ten
    times slower. That matters for the three metrics that count each delivery.
    """

    def __init__(self, stage: str, tracer: OtelTracer | None = None) -> None:
        self._tracer = tracer
        self._refreshes: list[Callable[[], None]] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._logger = structlog.get_logger().bind(stage=stage)
        self._counts = {name: _initial_values(labels) for name, (_, labels) in COUNTERS.items()}
        self._levels = {name: _initial_values(labels) for name, (_, labels) in GAUGES.items()}
        self._histograms = {name: _Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        counts, values = self._counts[metric], tuple(labels.values())
        if values not in counts:
            _require(metric, COUNTERS[metric][1], labels)
        counts[values] = counts.get(values, 0.0) + amount

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        _require(metric, GAUGES[metric][1], labels)
        self._levels[metric][tuple(labels.values())] = value

    def gauge_all(self, metric: str, values: Mapping[tuple[str, ...], float], /) -> None:
        self._levels[metric] = dict(values)

    def before_collect(self, refresh: Callable[[], None]) -> None:
        """Call this before each collection, to set gauges that are only asked for then."""
        self._refreshes.append(refresh)

    def observe(self, metric: str, value: float, /) -> None:
        self._histograms[metric].observe(value)

    def collect(self) -> Iterator[Metric]:
        """All metrics, in prometheus_client's form."""
        for refresh in self._refreshes:
            refresh()
        for name, (message, labels) in COUNTERS.items():
            counter = CounterMetricFamily(f"{NAMESPACE}_{name}", message, labels=labels)
            zeros = {(str(value),): 0.0 for value in KNOWN_VALUES.get(name, ())}
            for values, count in (zeros | self._counts[name]).items():
                counter.add_metric(values, count)
            yield counter
        for name, (message, labels) in GAUGES.items():
            gauge = GaugeMetricFamily(f"{NAMESPACE}_{name}", message, labels=labels)
            for values, level in self._levels[name].items():
                gauge.add_metric(values, level)
            yield gauge
        for name, (message, _) in HISTOGRAMS.items():
            histogram = self._histograms[name]
            yield HistogramMetricFamily(
                f"{NAMESPACE}_{name}", message, buckets=histogram.buckets(), sum_value=histogram.sum
            )

    def span(self, name: SpanName, parent: str | None, started_at: datetime | None = None) -> Span:
        return self._tracer.span(name, parent, started_at) if self._tracer else NonRecordingSpan(parent)

    @cached_property
    def is_debug_enabled(self) -> bool:
        return bool(self._logger.is_enabled_for(logging.DEBUG))

    def info(self, event: str, /, **fields: object) -> None:
        self._logger.info(event, **_drop_none(fields))

    def debug(self, event: str, /, **fields: object) -> None:
        self._logger.debug(event, **_drop_none(fields))

    def warning(self, event: str, /, **fields: object) -> None:
        self._logger.warning(event, **_drop_none(fields))

    def error(self, event: str, /, **fields: object) -> None:
        self._logger.error(event, **_drop_none(fields))


class StagesCollector(Collector):
    """The metrics of the stages of one process, by their own names, each with the label `stage`."""

    def __init__(self, stages: Callable[[], Mapping[str, PrometheusTelemetry]]) -> None:
        self._stages = stages

    def collect(self) -> Iterator[Metric]:
        stages = self._stages()
        # Every stage has every metric, in the same order.
        for metrics in zip(*(telemetry.collect() for telemetry in stages.values()), strict=True):
            merged_metric = metrics[0]
            merged_metric.samples = [
                sample._replace(labels={"stage": stage, **sample.labels})
                for stage, metric in zip(stages, metrics, strict=True)
                for sample in metric.samples
            ]
            yield merged_metric


def _drop_none(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _initial_values(labels: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The initial values of a metric. Without labels it starts at 0, so that it is exposed at once."""
    return {} if labels else {(): 0.0}


def _require(metric: str, declared_labels: Sequence[str], labels: Mapping[str, str]) -> None:
    if [*labels] != [*declared_labels]:
        raise ValueError(f"{metric} has the labels {declared_labels}, not {[*labels]}")
