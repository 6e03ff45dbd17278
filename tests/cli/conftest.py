"""A person at a terminal, though in tests the input is a pipe, and an API beside the commands."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rest.api_fixture import ApiFixture, open_api
from streams.adapters.encryption import generate_key
from streams.cli import output


@pytest.fixture
def is_at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether a person can answer a question."""
    return lambda answers: monkeypatch.setattr(output, "can_be_asked", lambda: answers)


@pytest.fixture(autouse=True)
def terminal(is_at_terminal: Callable[[bool], None]) -> None:
    is_at_terminal(True)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiFixture]:
    """An API on the database that the commands use."""
    url, keys = f"sqlite:///{tmp_path}/db.sqlite", generate_key()
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("SCORM_WEBHOOKS_ENCRYPTION_KEYS", keys)
    monkeypatch.chdir(tmp_path)
    async with open_api(url, settings={"SCORM_WEBHOOKS_ENCRYPTION_KEYS": keys}) as api:
        yield api
