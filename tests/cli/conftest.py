"""A person at a terminal: in tests the input is a pipe."""

from collections.abc import Callable

import pytest

from streams.cli import output


@pytest.fixture
def is_at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether a person can answer a question."""
    return lambda answers: monkeypatch.setattr(output, "can_be_asked", lambda: answers)


@pytest.fixture(autouse=True)
def terminal(is_at_terminal: Callable[[bool], None]) -> None:
    is_at_terminal(True)
