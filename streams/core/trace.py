"""W3C Trace Context: the `traceparent` that ties the spans of one event together."""

import re
from collections.abc import Mapping
from typing import NamedTuple

TRACE_PARENT_FORM = "00-<32 hex>-<16 hex>-<2 hex>"
_TRACE_PARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
# An id of zeros alone is not valid (section 3.2.2.3).
_NO_IDS = (f"-{'0' * 32}-", f"-{'0' * 16}-")


def is_trace_parent(text: str) -> bool:
    """Whether this is a `traceparent` of version 00 (https://www.w3.org/TR/trace-context/)."""
    return bool(_TRACE_PARENT.fullmatch(text))


def trace_parent_of(header: str | None) -> str | None:
    """A request's `traceparent`; None for one that names no trace, which the specification says to ignore."""
    if header is None or not is_trace_parent(header) or any(none in header for none in _NO_IDS):
        return None
    return header


class UnrecordedSpan(NamedTuple):
    """A span where nobody collects spans: what follows has the same parent."""

    trace_parent: str | None

    @property
    def is_recorded(self) -> bool:
        return False

    def end(self, attributes: Mapping[str, str | int], problem: str | None = None) -> None:
        pass
