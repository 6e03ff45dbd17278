"""Spans reach a collector, and a collector stops nobody."""

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from e2e.collector import TRACES, collected
from e2e.receiver import Receiver, header
from e2e.system import until
from streams.adapters.otel import CLOSE_SECONDS, OtelTracer, otel_tracer
from streams.core.errors import Misconfigured
from streams.telemetry import PrometheusTelemetry

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = PARENT[:-1] + "0"


@pytest.fixture
def collector() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    server.close()


def tracer(collector: Receiver, **environ: str) -> OtelTracer:
    made = otel_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url(""), **environ}, "deliver")
    assert made
    return made


def test_a_span_has_its_parent_its_time_and_its_attributes(collector: Receiver) -> None:
    made = tracer(collector)
    began = datetime.now(UTC) - timedelta(seconds=5)
    span = PrometheusTelemetry("deliver", made).span("fan-out", PARENT, began)
    span.end({"event_id": "evt_1", "http.response.status_code": 204}, "it failed")
    made.close()
    [got] = collected(collector)
    assert f"00-{got.trace}-{got.parent}-01" == PARENT
    assert got.trace_parent == span.trace_parent
    assert got.seconds == pytest.approx(5, abs=1)
    assert got.attributes == {"scorm_webhooks.event_id": "evt_1", "http.response.status_code": 204}
    assert (got.service, got.problem) == ("scorm-webhooks-deliver", "it failed")


def test_a_span_without_a_parent_begins_a_trace(collector: Receiver) -> None:
    made = tracer(collector)
    first, second = (made.span("attempt", None) for _ in range(2))
    for span in (first, second):
        span.end({})
    made.close()
    one, other = collected(collector)
    assert one.parent == other.parent == ""
    assert one.trace != other.trace


def test_what_the_caller_does_not_sample_is_not_sent(collector: Receiver) -> None:
    made = tracer(collector)
    span = made.span("attempt", NOT_SAMPLED)
    assert not span.is_recorded
    span.end({"event_id": "evt_1"})
    made.close()
    assert span.trace_parent
    assert span.trace_parent.split("-")[1] == PARENT.split("-")[1]
    assert span.trace_parent.endswith("-00")
    assert collected(collector) == []


def test_the_variables_of_opentelemetry_count(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "webhooks")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
    made = tracer(collector, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.url(TRACES))
    made.span("attempt", PARENT).end({})
    made.close()
    [got] = collected(collector)
    assert got.service == "webhooks"
    assert header(collector.at(TRACES)[0], "x-tenant") == "acme"


def test_a_collector_that_hangs_does_not_hold_the_end_up(collector: Receiver) -> None:
    def hang(_: object) -> int:
        time.sleep(3 * CLOSE_SECONDS)
        return 200

    collector.responses[TRACES] = hang
    made = tracer(collector)
    made.span("attempt", PARENT).end({})
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 2 * CLOSE_SECONDS
    until(lambda: len(collector.at(TRACES)) == 1)


@pytest.mark.parametrize("environ", [{}, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}])
def test_without_a_collector_there_is_no_tracer(environ: dict[str, str]) -> None:
    assert otel_tracer(environ, "deliver") is None


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "must be a URL such as http://collector:4318"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://"}, "must be a URL"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf",
        ),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(Misconfigured, match=words):
        otel_tracer(environ, "deliver")


def test_a_wrong_size_of_batches_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(Misconfigured, match="OTEL_BSP_…: max_queue_size must be a positive integer"):
        otel_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "deliver")


def test_without_the_extra_the_process_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(
        Misconfigured, match=r"opentelemetry\.sdk\.trace is missing: pip install 'scorm-webhooks\[tracing\]'"
    ):
        otel_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, "deliver")
