"""At the end of a long run: the seconds of each kind of test; a kind is a folder."""

from collections import Counter, defaultdict

import pytest

# A shorter run needs no table.
LONG_SECONDS = 60.0


class SecondsByKind:
    """A plugin of pytest."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tests: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        kind = kind_of(report.nodeid)
        self._seconds[kind] += report.duration
        self._tests[kind] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if sum(self._seconds.values()) < LONG_SECONDS:
            return
        terminalreporter.section("seconds by kind of test, all processes together")
        for kind, seconds in sorted(self._seconds.items(), key=lambda item: -item[1]):
            terminalreporter.write_line(f"{seconds:7.0f} s  {self._tests[kind]:5} tests  {kind}")


def kind_of(nodeid: str) -> str:
    """The folder of a test below `tests`; the file of one that is in none."""
    first, *others = nodeid.partition("::")[0].removeprefix("tests/").split("/")
    return f"{first}/" if others else first
