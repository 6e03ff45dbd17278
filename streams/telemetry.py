"""Metrics and structured log lines. Every metric is declared here once."""

import logging
import math
import re
import sys
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Literal, TextIO, cast

import structlog
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from streams.core.delivery import DeathReason, HoldReason
from streams.core.outcome import OutcomeKind
from streams.core.webhook import PauseReason
from streams.log_lines import WholeLines, escape_event
from streams.topics import RECORDED, SESSION_EVENTS

NAMESPACE = "scorm_webhooks"
FAST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600, 21600)

REPEATING_LOGGERS = ("aiokafka", "librdkafka")
REPEATED_SECONDS = 60.0
REPEATED_LINES = 3
KINDS_REMEMBERED = 1000
_NUMBERS = re.compile(r"\d+")

COUNTERS: dict[str, tuple[str, Sequence[str]]] = {
    "events_total": ("Events fanned out, by type.", ["type"]),
    "events_unmatched_total": (
        "Events that no webhook receives, by reason: no_webhook, type, scope, newcomer.",
        ["reason"],
    ),
    "deliveries_created_total": ("Deliveries written by fan-out.", []),
    "deliveries_held_total": ("Deliveries held, by reason.", ["reason"]),
    "deliveries_released_total": ("Held deliveries released, by the choice made for them.", ["choice"]),
    "dead_letters_total": ("Deliveries given up, by reason.", ["reason"]),
    "attempts_total": ("Attempts made, by outcome.", ["outcome"]),
    "attempts_postponed_total": ("Attempts postponed because this machine lacks a resource. They do not count.", []),
    "duplicates_dropped_total": ("Delivery records that this process had handled before.", []),
    "conflicting_ids_total": (
        "Deliveries not made because their event's id belongs to another body; kept in session-events.invalid.",
        [],
    ),
    "retries_superseded_total": ("Retries that were not sent because a replay took their place.", []),
    "deliveries_erased_total": ("Delivery records that were not sent because their learner was erased.", []),
    "tests_expired_total": ("Test deliveries that were too old to be sent.", []),
    "usage_launches_total": ("Launches counted as usage.", []),
    "usage_duplicates_total": ("Launches that were counted before.", []),
    "usage_too_late_total": ("Launches of a month that ended too long ago to count.", []),
    "outgoing_events_total": ("Events of our own, such as usage.threshold, sent to session-events.", []),
    "records_stored_total": ("Records stored in SQL.", []),
    "records_refused_total": ("Records that the database refused; stored without details.", []),
    "invalid_records_total": ("Records kept in session-events.invalid, by the topic they come from.", ["topic"]),
    "invalid_records_not_stored_total": (
        "Invalid records of which Kafka does not take even the start, by the topic they are in.",
        ["topic"],
    ),
    "webhooks_paused_total": ("Webhooks paused automatically, by reason.", ["reason"]),
    "webhooks_published_total": ("Webhooks written to subscriptions.", []),
    "webhooks_refused_total": ("Webhooks that could not be written to subscriptions.", []),
    "subscriptions_invalid_total": ("Records of subscriptions that could not be read.", []),
    "mails_total": ("Mails by outcome: sent, again, given_up, not_sent (no mail server).", ["outcome"]),
    "oidc_sign_ins_total": (
        "Sign-ins by OpenID Connect, by outcome: signed_in, refused, failed (the provider).",
        ["outcome"],
    ),
    "rows_pruned_total": ("Rows deleted at the end of their retention, by kind.", ["kind"]),
    "api_requests_total": ("Requests to the API, by method, route and status.", ["method", "route", "status"]),
    "api_connections_closed_total": ("Connections to the API that a limit closed, by reason.", ["reason"]),
    "produce_errors_total": ("Records that had to be produced again.", []),
    "commit_errors_total": ("Commits of offsets that Kafka did not take. What is not committed is read again.", []),
    "rebalances_total": ("Assignments of partitions to this process.", []),
}
# Counters whose one label has known values. They start at 0: Prometheus sees no increase where a series begins.
KNOWN_VALUES: dict[str, Iterable[str]] = {
    "attempts_total": OutcomeKind,
    "dead_letters_total": DeathReason,
    "deliveries_held_total": HoldReason,
    "webhooks_paused_total": [reason for reason in PauseReason if reason.automatic],
    "mails_total": ("sent", "again", "given_up", "not_sent"),
    "invalid_records_total": (SESSION_EVENTS, *RECORDED),
    "invalid_records_not_stored_total": (SESSION_EVENTS, *RECORDED),
    "api_connections_closed_total": (
        "bad_request",
        "headers_too_large",
        "too_large",
        "timeout",
        "too_many_connections",
        "slow_reader",
    ),
}
GAUGES: dict[str, tuple[str, Sequence[str]]] = {
    "build_info": ("1, with the release and the Python that it runs on.", ["version", "python"]),
    "ready": ("1 when this stage can work.", []),
    "publisher": ("1 in the process that publishes; it alone has the gauges of the whole deployment.", []),
    "webhooks": ("Webhooks by status: active, paused. Of the whole deployment.", ["status"]),
    "retries_waiting": ("Deliveries that wait for a retry, by tier. Of the whole deployment.", ["tier"]),
    "retries_overdue_seconds": ("How late the oldest retry is, by tier. Of the whole deployment.", ["tier"]),
    "held_deliveries": ("Held deliveries, by reason. Of the whole deployment.", ["reason"]),
    "held_deliveries_oldest_seconds": ("Age of the oldest of them, by reason.", ["reason"]),
    "undecided_dead_letters": ("Dead letters that nobody decided on, by reason. Of the whole deployment.", ["reason"]),
    "undecided_dead_letters_oldest_seconds": ("Age of the oldest of them, by reason.", ["reason"]),
    "group_lag_records": (
        "Records that a consumer group has not committed. Of the whole deployment.",
        ["group", "topic"],
    ),
    "group_lag_seconds": ("Age of the oldest of them, at most 15 seconds too long.", ["group", "topic"]),
    "event_loop_lag_seconds": ("Longest delay of the event loop in the last 15 seconds.", []),
    "clock_skew_seconds": ("This machine's clock minus the broker's, at the last sentinel.", []),
    "database_pool_size": ("Connections to the database that this process may open.", []),
    "database_connections": ("Connections to the database, by state: in_use, idle.", ["state"]),
    "api_connections": ("Open connections to the API.", []),
    "subscriptions_webhooks": ("Webhooks in this process's subscriptions table.", []),
    "records_open": ("Records that deliver handles at the moment.", []),
    "partitions_of_newer_release": ("Partitions that wait, because a newer release wrote their next record.", []),
    "own_network_down": ("1 while most endpoints are unreachable, which counts as an outage of our own network.", []),
    "slots_in_use": ("Requests in flight, by class of endpoint: healthy, new, suspect, test.", ["endpoint_class"]),
    "slots_waiting": ("Deliveries that wait for a slot in memory.", []),
    "deliver_overdue_seconds": (
        "How late the oldest delivery is that waits for a free slot of this process, not for its own endpoint.",
        [],
    ),
}
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "api_request_seconds": ("From a request to the API to its response.", FAST_BUCKETS),
    "attempt_seconds": ("From the start of an attempt to its outcome.", FAST_BUCKETS),
    "first_attempt_delay_seconds": (
        "From an event's append to the start of its first attempt, where it was not held.",
        SLOW_BUCKETS,
    ),
    "event_to_delivered_seconds": ("From an event's append to its delivery, retries included.", SLOW_BUCKETS),
}


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
    """A `Telemetry` with its own registry. A metric that is not declared above is a programming error.

    Not thread-safe: only the event loop counts. prometheus_client's own metrics are, and take ten times as long, which
    matters for the three that count each delivery.
    """

    def __init__(self, stage: str) -> None:
        self._refreshes: list[Callable[[], None]] = []
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._logger = structlog.get_logger().bind(stage=stage)
        self._counts = {name: _nothing(labels) for name, (_, labels) in COUNTERS.items()}
        self._levels = {name: _nothing(labels) for name, (_, labels) in GAUGES.items()}
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
            known = {(str(value),): 0.0 for value in KNOWN_VALUES.get(name, ())}
            for values, count in (known | self._counts[name]).items():
                counter.add_metric(values, count)
            yield counter
        for name, (message, labels) in GAUGES.items():
            gauge = GaugeMetricFamily(f"{NAMESPACE}_{name}", message, labels=labels)
            for values, level in self._levels[name].items():
                gauge.add_metric(values, level)
            yield gauge
        for name, (message, _) in HISTOGRAMS.items():
            found = self._histograms[name]
            yield HistogramMetricFamily(f"{NAMESPACE}_{name}", message, buckets=found.buckets(), sum_value=found.sum)

    @cached_property
    def is_debug_enabled(self) -> bool:
        return bool(self._logger.is_enabled_for(logging.DEBUG))

    def info(self, event: str, /, **fields: object) -> None:
        self._logger.info(event, **_present(fields))

    def debug(self, event: str, /, **fields: object) -> None:
        self._logger.debug(event, **_present(fields))

    def warning(self, event: str, /, **fields: object) -> None:
        self._logger.warning(event, **_present(fields))

    def error(self, event: str, /, **fields: object) -> None:
        self._logger.error(event, **_present(fields))


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _nothing(labels: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The initial values of a metric. Without labels it starts at 0, so that it is exposed at once."""
    return {} if labels else {(): 0.0}


def _require(metric: str, declared: Sequence[str], labels: Mapping[str, str]) -> None:
    if [*labels] != [*declared]:
        raise ValueError(f"{metric} has the labels {declared}, not {[*labels]}")


def configure_logging(style: Literal["console", "json"], level: str, stage: str) -> None:
    """Write log lines to standard error, those of other libraries too. Every line has `stage`, `level` and a time."""
    renderers: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    if style == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderers += [escape_event, console]
    else:
        renderers.append(structlog.processors.JSONRenderer(default=str))

    def add_stage(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("stage", stage)
        return event

    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_stage,
    ]
    lines = WholeLines(sys.stderr)
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, lines)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.addFilter(RepeatedLineFilter())
    foreign = [structlog.stdlib.add_logger_name, *shared]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_strip, *renderers], foreign_pre_chain=foreign)
    )
    logging.basicConfig(
        handlers=[handler],
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]),
        force=True,
    )
    logging.captureWarnings(True)


class RepeatedLineFilter(logging.Filter):
    """Rate-limits repeated log lines of the Kafka clients to three a minute. The next line says how many it dropped.

    Lines that differ only in numbers count as repeated. In an outage the clients log twenty lines a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in REPEATING_LOGGERS or record.exc_info or record.stack_info:
            return True
        try:
            text = record.getMessage()
        except Exception:
            return True  # the handler reports the format error
        kind = (record.levelno, _NUMBERS.sub("", text))
        since, count = self.seen.get(kind, (-math.inf, 0))
        if not 0 <= record.created - since < REPEATED_SECONDS:
            if count > REPEATED_LINES:
                record.msg, record.args = f"{text} ({count - REPEATED_LINES} similar lines were dropped)", ()
            since, count = record.created, 0
        if len(self.seen) >= KINDS_REMEMBERED:
            self.seen.clear()
        self.seen[kind] = since, count + 1
        return count < REPEATED_LINES


def _strip(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event)
