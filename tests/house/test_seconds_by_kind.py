"""The table at the end of a long run adds up what its tests took."""

import pytest
from seconds_by_kind import SecondsByKind, kind_of


class Terminal:
    """A `TerminalReporter` that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def section(self, title: str) -> None:
        self.lines.append(title)

    def write_line(self, line: str) -> None:
        self.lines.append(line)


@pytest.mark.parametrize(
    ("nodeid", "kind"),
    [
        ("tests/core/test_url.py::test_one[a/b]", "core/"),
        ("tests/features/mails/test_text.py::test_one", "features/"),
        ("tests/test_producer_package.py::test_one", "test_producer_package.py"),
    ],
)
def test_a_test_is_of_its_folder(nodeid: str, kind: str) -> None:
    assert kind_of(nodeid) == kind


def test_the_kind_that_took_longest_is_first() -> None:
    plugin, terminal = SecondsByKind(), Terminal()
    for nodeid, seconds in (("tests/core/test_a.py::test_a", 9.0), ("tests/e2e/test_b.py::test_b", 70.0)):
        for when in ("setup", "call"):
            report = pytest.TestReport(nodeid, ("", 0, ""), {}, "passed", None, when, duration=seconds)
            plugin.pytest_runtest_logreport(report)
    plugin.pytest_terminal_summary(terminal)  # type: ignore[arg-type]
    assert terminal.lines[1:] == ["    140 s      1 tests  e2e/", "     18 s      1 tests  core/"]


def test_a_short_run_has_no_table() -> None:
    plugin, terminal = SecondsByKind(), Terminal()
    plugin.pytest_terminal_summary(terminal)  # type: ignore[arg-type]
    assert terminal.lines == []
