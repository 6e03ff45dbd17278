"""Which texts name a trace."""

import pytest

from streams.core.events.trace import NonRecordingSpan, format_trace_parent, is_trace_parent

TRACE_PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_parent_is_known() -> None:
    assert is_trace_parent(TRACE_PARENT)
    assert is_trace_parent(format_trace_parent(1, 2, 0))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "01" + TRACE_PARENT[2:],
        TRACE_PARENT.upper(),
        TRACE_PARENT + "-more",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "0" * 100_000,
    ],
)
def test_what_names_no_trace_is_refused(text: str) -> None:
    assert not is_trace_parent(text)


def test_a_span_that_nobody_records_passes_its_parent_on() -> None:
    assert NonRecordingSpan(TRACE_PARENT).trace_parent == TRACE_PARENT
