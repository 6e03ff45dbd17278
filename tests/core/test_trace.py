"""Which headers name a trace."""

import pytest

from streams.core.trace import UnrecordedSpan, trace_parent_of

TRACE_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_parent_is_taken() -> None:
    assert trace_parent_of(TRACE_PARENT) == TRACE_PARENT


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "01" + TRACE_PARENT[2:],
        TRACE_PARENT.upper(),
        TRACE_PARENT + "-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "0" * 100_000,
    ],
)
def test_a_header_that_names_no_trace_is_ignored(header: str | None) -> None:
    assert trace_parent_of(header) is None


def test_a_span_that_nobody_records_passes_its_parent_on() -> None:
    assert UnrecordedSpan(TRACE_PARENT).trace_parent == TRACE_PARENT
