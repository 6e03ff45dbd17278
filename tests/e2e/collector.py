"""What an OpenTelemetry collector got: spans by OTLP over HTTP."""

from dataclasses import dataclass

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from e2e.receiver import Receiver

TRACES = "/v1/traces"


@dataclass(frozen=True)
class CollectedSpan:
    """A span; its ids are hexadecimal, and its parent's is empty for the first of a trace."""

    service: str
    name: str
    kind: str
    trace: str
    id: str
    parent: str
    seconds: float
    attributes: dict[str, str | int]
    problem: str | None

    @property
    def trace_parent(self) -> str:
        return f"00-{self.trace}-{self.id}-01"


def collected(collector: Receiver) -> list[CollectedSpan]:
    """All spans that the receiver got at an OTLP endpoint."""
    found = []
    for request in collector.at(TRACES):
        for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans:
            service = str(_values(resource.resource.attributes)["service.name"])
            found += [_span(service, span) for scope in resource.scope_spans for span in scope.spans]
    return found


def _span(service: str, span: Span) -> CollectedSpan:
    return CollectedSpan(
        service=service,
        name=span.name,
        kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        seconds=(span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
        attributes=_values(span.attributes),
        problem=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
    )


def _values(pairs: "list[KeyValue]") -> dict[str, str | int]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in pairs}
