"""Prints the table of the scenarios, also of failed ones."""

import pytest

from chaos.scenario import Row
from chaos.table import table

ROWS = pytest.StashKey[list[Row]]()


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> list[Row]:
    return pytestconfig.stash.setdefault(ROWS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if rows := config.stash.get(ROWS, []):
        terminalreporter.section("chaos scenarios")
        terminalreporter.write_line(table(rows))
