"""What an operator sees: every metric, declared once, and one structured log line for a fact."""

import logging
import sys
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NAMESPACE = "scorm_webhooks"
FAST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
SLOW_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 5, 30, 120, 600, 3600, 21600)

COUNTERS: dict[str, tuple[str, Sequence[str]]] = {
    "events_total": ("Events fanned out, by type.", ["type"]),
    "events_invalid_total": (
        "Records of session-events that nobody can use; kept in session-events.invalid.",
        [],
    ),
    "deliveries_created_total": ("Deliveries written by fan-out.", []),
    "deliveries_invalid_total": ("Records of the delivery topics that nobody can use; kept.", []),
    "deliveries_held_total": ("Deliveries held, by reason.", ["reason"]),
    "deliveries_sent_on_total": ("Held deliveries that left, by what was chosen for them.", ["choice"]),
    "dead_letters_total": ("Deliveries given up, by reason.", ["reason"]),
    "attempts_total": ("Attempts made, by outcome.", ["outcome"]),
    "repeats_dropped_total": ("Delivery records that this process had already attended to.", []),
    "superseded_dropped_total": ("Retries that were not sent because a replay took their place.", []),
    "tests_expired_total": ("Test deliveries that were too old to be sent.", []),
    "facts_recorded_total": ("Facts stored in SQL.", []),
    "facts_refused_total": ("Facts that the database refused; stored stripped.", []),
    "records_unreadable_total": ("Records that record could not read; kept in session-events.invalid.", []),
    "webhooks_paused_total": ("Webhooks paused automatically, by reason.", ["reason"]),
    "webhooks_published_total": ("Webhooks written to subscriptions.", []),
    "view_unreadable_total": ("Records of subscriptions that could not be read.", []),
    "mails_total": ("Tries to send a mail, by outcome: sent, again, given_up.", ["outcome"]),
    "rows_pruned_total": ("Rows taken away because they were kept for long enough, by kind.", ["kind"]),
    "api_requests_total": ("Requests to the API, by method, route and status.", ["method", "route", "status"]),
    "produce_errors_total": ("Records that had to be produced again.", []),
}
GAUGES: dict[str, tuple[str, Sequence[str]]] = {
    "ready": ("1 when this stage can work.", []),
    "view_webhooks": ("Webhooks in this process's view.", []),
    "records_open": ("Records in hand in deliver.", []),
    "own_network_down": ("1 while most endpoints are out of reach and none is blamed for it.", []),
    "slots_in_use": ("Requests in flight, by what is known of their endpoints.", ["repute"]),
    "slots_waiting": ("Deliveries that wait for a slot in memory.", []),
}
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "api_request_seconds": ("From a request to the API to its answer.", FAST_BUCKETS),
    "attempt_seconds": ("From the start of an attempt to its outcome.", FAST_BUCKETS),
    "event_to_delivered_seconds": ("From an event's append to its delivery, retries included.", SLOW_BUCKETS),
}


class PrometheusReport:
    """A `Report` with a registry of its own; a metric that is not declared above is a programming error."""

    def __init__(self, stage: str) -> None:
        self.registry = CollectorRegistry()
        self._log = structlog.get_logger().bind(stage=stage)
        self._counters = {
            name: Counter(name, words, labels, namespace=NAMESPACE, registry=self.registry)
            for name, (words, labels) in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, words, labels, namespace=NAMESPACE, registry=self.registry)
            for name, (words, labels) in GAUGES.items()
        }
        self._histograms = {
            name: Histogram(name, words, namespace=NAMESPACE, registry=self.registry, buckets=buckets)
            for name, (words, buckets) in HISTOGRAMS.items()
        }
        self._children: dict[tuple[str, ...], Counter] = {}

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None:
        key = (metric, *labels.values())
        child = self._children.get(key)
        if child is None:
            counter = self._counters[metric]
            child = self._children[key] = counter.labels(**labels) if labels else counter
        child.inc(amount)

    def gauge(self, metric: str, value: float, /, **labels: str) -> None:
        gauge = self._gauges[metric]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, metric: str, value: float, /, **labels: str) -> None:
        self._histograms[metric].observe(value)

    @cached_property
    def is_heard(self) -> bool:
        return bool(self._log.is_enabled_for(logging.INFO))

    def tell(self, fact: str, /, **ids: object) -> None:
        self._log.info(fact, **{name: value for name, value in ids.items() if value is not None})


def configure_logging(style: Literal["console", "json"], level: str) -> None:
    """Log lines to standard error; other libraries' lines pass through the same renderer."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if style == "console"
        else structlog.processors.JSONRenderer(default=str)
    )
    shared: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(processors=[_strip, renderer], foreign_pre_chain=shared))
    logging.basicConfig(
        handlers=[handler],
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]),
        force=True,
    )


def _strip(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event)
