"""W3C Trace Context: the `traceparent` that ties the spans of one event together."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

TRACE_PARENT_FORM = "00-<32 hex>-<16 hex>-<2 hex>"
# An id of zeros alone is not valid (https://www.w3.org/TR/trace-context/ section 3.2.2.3).
TRACE_PARENT_PATTERN = "00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_TRACE_PARENT = re.compile(TRACE_PARENT_PATTERN, re.ASCII)


class SpanName(StrEnum):
    """The spans of a trace, in their order."""

    PUBLISH = "POST /v1/events"
    FAN_OUT = "fan-out"
    ATTEMPT = "attempt"


def is_trace_parent(text: str) -> bool:
    """Whether this is a `traceparent` of version 00."""
    return bool(_TRACE_PARENT.fullmatch(text))


def format_trace_parent(trace_id: int, span_id: int, flags: int) -> str:
    return f"00-{trace_id:032x}-{span_id:016x}-{flags:02x}"


class NonRecordingSpan(NamedTuple):
    """A span when no spans are collected: the next spans have the same parent."""

    trace_parent: str | None

    @property
    def is_recording(self) -> bool:
        return False

    def end(self, attributes: Mapping[str, str | int], problem: str | None = None) -> None:
        pass
