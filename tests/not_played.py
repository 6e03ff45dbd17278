"""At the end of a whole run: what it did not play, and which command does."""

from collections import Counter

import pytest
from nights import newest_night

LANDING = "CI=true make test"
NIGHT = "make nightly"
# What no run of pytest alone plays.
BESIDE = {
    LANDING: "two scenarios of chaos",
    NIGHT: "all of chaos, every further Python, Kubernetes, a release, an upgrade",
}


class NotPlayed:
    """A plugin of pytest, in the process that prints and in each process that plays tests."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        for item in items:
            if any(item.get_closest_marker(mark) for mark in ("chaos", "kube", "release")):
                continue
            if night := item.get_closest_marker("night"):
                self._counts[f"{NIGHT}: {night.args[0]}"] += 1
            elif item.get_closest_marker("landing"):
                self._counts[LANDING] += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["not_played"] = dict(self._counts)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: object) -> None:
        # Each process has deselected the same tests.
        self._counts |= Counter(getattr(node, "workeroutput", {}).get("not_played", {}))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if not self._counts or list(config.args) != list(config.getini("testpaths")):
            return
        terminalreporter.section("what this run did not play")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        reasons = {name.partition(": ")[2]: count for name, count in self._counts.items() if name.startswith(NIGHT)}
        counts = {LANDING: self._counts[LANDING], NIGHT: sum(reasons.values())}
        lines = [f"{command}: {count} tests, and {BESIDE[command]}" for command, count in counts.items() if count]
        if reasons:
            words = ", ".join(f"{word} {count}" for word, count in sorted(reasons.items(), key=lambda one: -one[1]))
            lines.append(f"  left to the night because of: {words}")
        return [*lines, f"the newest night: {newest_night() or 'none yet'}"]
