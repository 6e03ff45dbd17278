"""Spans for OpenTelemetry, sent to a collector by OTLP over HTTP."""

import threading
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from streams.core.errors import Misconfigured
from streams.ports import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as SdkSpan

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL = "http/protobuf"
# The last spans of a process may be lost: nobody waits for a collector.
CLOSE_SECONDS = 2.0
NAMESPACE = "scorm_webhooks"
# Span kinds of OpenTelemetry by our names of spans.
KINDS = {"POST /v1/events": "SERVER", "fan-out": "CONSUMER", "attempt": "CLIENT"}


class OtelSpan:
    """A `Span` of the SDK."""

    def __init__(self, span: "SdkSpan") -> None:
        self._span = span

    @property
    def trace_parent(self) -> str:
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    @property
    def is_recorded(self) -> bool:
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
    """A `Tracer` whose spans a thread sends in batches. While the collector is away, spans are lost, and no record."""

    def __init__(self, provider: "TracerProvider") -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._propagator = TraceContextTextMapPropagator()
        self._provider = provider
        self._tracer = provider.get_tracer("scorm-webhooks", version("scorm-webhooks"))

    def span(self, name: str, parent: str | None, began_at: datetime | None = None) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind

        context = self._propagator.extract({"traceparent": parent} if parent else {}, Context())
        began_ns = None if began_at is None else round(began_at.timestamp() * 1e9)
        return OtelSpan(self._tracer.start_span(name, context, SpanKind[KINDS[name]], start_time=began_ns))

    def close(self) -> None:
        """Send what is left. Returns in time, whatever the collector does."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def otel_tracer(environ: Mapping[str, str], stage: str) -> OtelTracer | None:
    """The tracer of OpenTelemetry's variables; None where they name no collector.

    The SDK reads all other ones itself (https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/).
    Raises `Misconfigured`.
    """
    name = TRACES_ENDPOINT if environ.get(TRACES_ENDPOINT) else ENDPOINT
    given = environ.get(name)
    if not given or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    url = urlsplit(given)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise Misconfigured(f"{name}: must be a URL such as http://collector:4318")
    for protocol in PROTOCOLS:
        if environ.get(protocol) not in (None, "", PROTOCOL):
            raise Misconfigured(f"{protocol}: must be {PROTOCOL}, which collectors take at port 4318")
    try:
        return OtelTracer(_provider(stage, given if name == TRACES_ENDPOINT else f"{given.rstrip('/')}/v1/traces"))
    except ModuleNotFoundError as missing:
        raise Misconfigured(
            f"{name} is set, and {missing.name} is missing: pip install 'scorm-webhooks[tracing]'"
        ) from None
    except ValueError as wrong:
        raise Misconfigured(f"OTEL_BSP_…: {wrong}") from None


def _provider(stage: str, endpoint: str) -> "TracerProvider":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    ours = {"service.name": f"scorm-webhooks-{stage}", "service.version": version("scorm-webhooks")}
    provider = TracerProvider(
        # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say counts more.
        resource=Resource.create(ours).merge(OTELResourceDetector().detect()),
        shutdown_on_exit=False,
    )
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    return provider
