"""Spans for OpenTelemetry, sent to a collector by OTLP over HTTP."""

import os
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streams.build import build_version
from streams.core.errors import Misconfigured
from streams.core.events.trace import SpanName, format_trace_parent
from streams.ports.runtime import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOL_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
HEADER_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")
SAMPLER_VARIABLE, SAMPLER_ARG_VARIABLE = "OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"
PROTOCOL = "http/protobuf"
PARENT_BASED = "parentbased_"
SAMPLERS = ("always_on", "always_off", "traceidratio")
# The last spans of a process may be lost, because it does not wait for a collector.
CLOSE_TIMEOUT_SECONDS = 2.0
NAMESPACE = "scorm_webhooks"
# Kinds of OpenTelemetry.
SPAN_KINDS = {SpanName.PUBLISH: "SERVER", SpanName.FAN_OUT: "CONSUMER", SpanName.ATTEMPT: "CLIENT"}
TRACED_STAGES = ("api", "fan-out", "deliver")


class OtelSpan:
    """A `Span` of the SDK."""

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span

    @property
    def trace_parent(self) -> str:
        context = self._span.get_span_context()
        return format_trace_parent(context.trace_id, context.span_id, context.trace_flags)

    @property
    def is_recording(self) -> bool:
        return self._span.is_recording()

    def end(self, attributes: Mapping[str, str | int], problem: str | None = None) -> None:
        from opentelemetry.trace import StatusCode

        for name, value in attributes.items():
            # OpenTelemetry's own names have a dot.
            self._span.set_attribute(name if "." in name else f"{NAMESPACE}.{name}", value)
        if problem is not None:
            self._span.set_status(StatusCode.ERROR, problem)
        self._span.end()


class OtelTracer:
    """Makes spans, which a thread sends in batches. While the collector is away, spans are lost, but no record."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._propagator = TraceContextTextMapPropagator()
        self._provider = provider
        self._tracer = provider.get_tracer("scorm-webhooks", build_version())

    def span(self, name: SpanName, parent: str | None, started_at: datetime | None = None) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract({"traceparent": parent} if parent else {}, Context())
        now = time.time_ns()
        # The broker's clock may be ahead of this process's clock.
        start = now if started_at is None else min(now, round(started_at.timestamp() * 1e9))
        return OtelSpan(self._tracer.start_span(name, context, SpanKind[SPAN_KINDS[name]], start_time=start))

    def close(self) -> None:
        """Send the remaining spans. Returns in time, whatever the collector does."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_TIMEOUT_SECONDS)


def otel_tracer(environ: Mapping[str, str], stage: str) -> OtelTracer | None:
    """The tracer of OpenTelemetry's variables; None if they name no collector, and for a stage without spans.

    The SDK reads the variables itself, and replaces a wrong value with another; the variables that people set are
    checked here. Raises `Misconfigured`.
    """
    name = _first_set(environ, ENDPOINT_VARIABLES)
    is_disabled = (
        environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none"
    )
    if name is None or is_disabled or stage not in TRACED_STAGES:
        return None
    endpoint = _endpoint(name, environ[name])
    protocol = _first_set(environ, PROTOCOL_VARIABLES)
    if protocol and environ[protocol] != PROTOCOL:
        raise Misconfigured(f"{protocol}: must be {PROTOCOL}, which collectors take at port 4318")
    headers = _first_set(environ, HEADER_VARIABLES)
    if headers and not all(item.partition("=")[1] for item in environ[headers].split(",") if item.strip()):
        raise Misconfigured(f"{headers}: must be name=value, several with commas between them")
    _check_sampler(environ)
    for empty in [variable for variable, value in os.environ.items() if variable.startswith("OTEL_") and not value]:
        # An empty value means not set, as everywhere here; the SDK would read it as a wrong value.
        del os.environ[empty]
    try:
        return OtelTracer(_provider(stage, endpoint))
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"{name} is set, and {error.name} is missing: pip install 'scorm-webhooks[tracing]'"
        ) from None
    except (ValueError, RuntimeError) as error:
        raise Misconfigured(f"a variable that begins with OTEL_ is wrong: {error}") from None


def _first_set(environ: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    """The first of these variables that is set: the variable for traces comes before the one for all signals."""
    return next((name for name in names if environ.get(name)), None)


def _endpoint(name: str, address: str) -> str:
    """The URL that takes spans. An error does not show it: it may have a password."""
    try:
        url = urlsplit(address)
        is_valid_port = url.port != 0  # ValueError if it is not a port
    except ValueError:
        is_valid_port = False
    if not is_valid_port or url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        raise Misconfigured(f"{name}: must be a URL without a query, such as http://collector:4318")
    return address if name == ENDPOINT_VARIABLES[0] else f"{address.rstrip('/')}/v1/traces"


def _check_sampler(environ: Mapping[str, str]) -> None:
    sampler = environ.get(SAMPLER_VARIABLE) or f"{PARENT_BASED}always_on"
    if sampler.removeprefix(PARENT_BASED) not in SAMPLERS:
        raise Misconfigured(
            f"{SAMPLER_VARIABLE}: must be one of {', '.join(SAMPLERS)}, or one with {PARENT_BASED} before it"
        )
    try:
        is_valid_ratio = 0 <= float(environ.get(SAMPLER_ARG_VARIABLE) or 1) <= 1
    except ValueError:
        is_valid_ratio = False
    if sampler.endswith("ratio") and not is_valid_ratio:
        raise Misconfigured(f"{SAMPLER_ARG_VARIABLE}: must be a number from 0 to 1")


def _provider(stage: str, endpoint: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    service_names = {"service.name": f"scorm-webhooks-{stage}", "service.version": build_version()}
    provider = TracerProvider(
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES take precedence.
        resource=Resource.create(service_names).merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider
