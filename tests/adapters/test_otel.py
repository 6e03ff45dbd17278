"""Spans reach a collector, and a collector stops nobody."""

import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from e2e.collector import TRACES, collected
from e2e.receiver import Receiver, header
from e2e.system import STAGES, until
from streams.adapters.otel import CLOSE_TIMEOUT_SECONDS, SPAN_KINDS, TRACED_STAGES, OtelTracer, otel_tracer
from streams.core.errors import Misconfigured
from streams.core.events.trace import SpanName
from streams.telemetry import PrometheusTelemetry

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
NOT_SAMPLED = PARENT[:-1] + "0"
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK reads what this process was started with."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


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
    span = PrometheusTelemetry("deliver", made).span(SpanName.FAN_OUT, PARENT, began)
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
    first, second = (made.span(SpanName.ATTEMPT, None) for _ in range(2))
    for span in (first, second):
        span.end({})
    made.close()
    one, other = collected(collector)
    assert one.parent == other.parent == ""
    assert one.trace != other.trace


def test_what_the_caller_does_not_sample_is_not_sent(collector: Receiver) -> None:
    made = tracer(collector)
    span = made.span(SpanName.ATTEMPT, NOT_SAMPLED)
    assert not span.is_recording
    span.end({"event_id": "evt_1"})
    made.close()
    assert span.trace_parent
    assert span.trace_parent.split("-")[1] == PARENT.split("-")[1]
    assert span.trace_parent.endswith("-00")
    assert collected(collector) == []


@pytest.mark.parametrize(("share", "parent"), [("0", PARENT), ("1", NOT_SAMPLED)])
def test_a_ratio_decides_whatever_the_caller_says(
    share: str, parent: str, collector: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", share)
    made = tracer(collector)
    span = made.span(SpanName.ATTEMPT, parent)
    assert span.is_recording == (share == "1")
    span.end({})
    made.close()
    assert len(collected(collector)) == int(share)


def test_the_variables_of_opentelemetry_count(collector: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "webhooks")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=acme")
    made = tracer(collector, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=collector.url(TRACES))
    made.span(SpanName.ATTEMPT, PARENT).end({})
    made.close()
    [got] = collected(collector)
    assert got.service == "webhooks"
    assert header(collector.at(TRACES)[0], "x-tenant") == "acme"


@pytest.mark.slow
def test_closing_does_not_wait_for_a_collector_that_hangs(collector: Receiver) -> None:
    def hang(_: object) -> int:
        time.sleep(3 * CLOSE_TIMEOUT_SECONDS)
        return 200

    collector.responses[TRACES] = hang
    made = tracer(collector)
    made.span(SpanName.ATTEMPT, PARENT).end({})
    began = time.monotonic()
    made.close()
    assert time.monotonic() - began < 2 * CLOSE_TIMEOUT_SECONDS
    until(lambda: len(collector.at(TRACES)) == 1)


def test_a_broker_whose_clock_is_ahead_makes_no_time_negative(collector: Receiver) -> None:
    made = tracer(collector)
    made.span(SpanName.FAN_OUT, PARENT, datetime.now(UTC) + timedelta(minutes=1)).end({})
    made.close()
    [got] = collected(collector)
    assert 0 <= got.seconds < 1


def test_every_span_has_a_kind() -> None:
    assert set(SPAN_KINDS) == set(SpanName)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {**COLLECTOR, "OTEL_TRACES_EXPORTER": "none"},
        {**COLLECTOR, "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_without_a_collector_there_is_no_tracer(environ: dict[str, str]) -> None:
    assert otel_tracer(environ, "deliver") is None


def test_a_stage_without_spans_has_no_tracer() -> None:
    assert [stage for stage in (*STAGES, "api", "meter", "notify") if otel_tracer(COLLECTOR, stage)] == [
        stage for stage in (*STAGES, "api") if stage in TRACED_STAGES
    ]


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("OTEL_TRACES_SAMPLER", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_EXPORTER_OTLP_HEADERS"):
        monkeypatch.setenv(name, "")
    assert otel_tracer(COLLECTOR, "deliver")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        *(
            (
                {"OTEL_EXPORTER_OTLP_ENDPOINT": url},
                "OTEL_EXPORTER_OTLP_ENDPOINT: must be a URL without a query, such as",
            )
            for url in ("collector:4317", "http://", "http://[::1", "http://c:abc", "http://c:99999", "http://c/?key=1")
        ),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "grpc://collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: must be"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: must be http/protobuf",
        ),
        ({**COLLECTOR, "OTEL_EXPORTER_OTLP_HEADERS": "Authorization: s3cret"}, "HEADERS: must be name=value"),
        ({**COLLECTOR, "OTEL_TRACES_SAMPLER": "ratio"}, "OTEL_TRACES_SAMPLER: must be one of always_on"),
        *(
            ({**COLLECTOR, "OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": share}, "from 0 to 1")
            for share in ("1%", "2", "-1", "nan")
        ),
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(Misconfigured, match=words) as refused:
        otel_tracer(environ, "deliver")
    assert "s3cret" not in str(refused.value)


def test_the_protocol_of_traces_counts_first() -> None:
    protocols = {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    assert otel_tracer({**COLLECTOR, **protocols}, "deliver")


def test_a_wrong_size_of_batches_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(Misconfigured, match="begins with OTEL_ is wrong: max_queue_size must be a positive integer"):
        otel_tracer(COLLECTOR, "deliver")


def test_without_the_extra_the_process_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(
        Misconfigured, match=r"opentelemetry\.sdk\.trace is missing: pip install 'scorm-webhooks\[tracing\]'"
    ):
        otel_tracer(COLLECTOR, "deliver")
