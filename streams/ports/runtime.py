"""The surroundings of the stages: telemetry, spans, the clock, leases."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from streams.core.events.trace import SpanName


class Span(Protocol):
    """A part of an event's trace, from its beginning until `end`."""

    @property
    def trace_parent(self) -> str | None:
        """The W3C `traceparent` for spans that follow from this one."""

    @property
    def is_recording(self) -> bool:
        """Whether the span's attributes are kept. Check this before making them for each record."""

    def end(self, attributes: Mapping[str, str | int], problem: str | None = None) -> None:
        """End the span now. With a `problem` it counts as an error."""


class Telemetry(Protocol):
    """Metrics by their declared names, log events with fields, and spans."""

    def span(self, name: SpanName, parent: str | None, started_at: datetime | None = None) -> Span:
        """Start a span: a child of the `traceparent` in `parent`, else a new trace. It may have started earlier."""

    @property
    def is_debug_enabled(self) -> bool:
        """Whether debug events are written. Check this before an event for each record."""

    def count(self, metric: str, amount: float = 1, /, **labels: str) -> None: ...

    def gauge(self, metric: str, value: float, /, **labels: str) -> None: ...

    def gauge_all(self, metric: str, values: Mapping[tuple[str, ...], float], /) -> None:
        """Replace all values of a gauge, by the values of its labels in their declared order."""

    def observe(self, metric: str, value: float, /) -> None: ...

    def debug(self, event: str, /, **fields: object) -> None:
        """Log an event of each attempt or each record."""

    def info(self, event: str, /, **fields: object) -> None:
        """Log an event in the life of a process."""

    def warning(self, event: str, /, **fields: object) -> None:
        """Log a problem that heals by itself, but that somebody should know."""

    def error(self, event: str, /, **fields: object) -> None:
        """Log a problem that needs a person."""


class Clock(Protocol):
    """The time now, aware and in UTC."""

    def now(self) -> datetime: ...


class ProcessLease(Protocol):
    """At most one process holds a lease at a time, for as long as it renews it."""

    async def renew(self) -> bool:
        """Take or keep the lease. False when another process holds it."""

    async def release(self) -> None: ...
