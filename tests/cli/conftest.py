"""A person at a terminal, though in tests the input is a pipe, and an API beside the commands."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cli.command import served

from rest.api_fixture import ApiFixture, open_api
from scorm_webhooks_cli import output
from scorm_webhooks_cli.local_key import make_local_key, write_local_key


@pytest.fixture
def is_at_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Sets whether a person can answer a question."""
    return lambda answers: monkeypatch.setattr(output, "can_be_asked", lambda: answers)


@pytest.fixture(autouse=True)
def terminal(is_at_terminal: Callable[[bool], None]) -> None:
    is_at_terminal(True)


@pytest.fixture
async def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ApiFixture]:
    """An API on this machine, whose local key the commands have."""
    file = tmp_path / "api.json"
    monkeypatch.setenv("SCORM_WEBHOOKS_LOCAL_KEY_FILE", str(file))
    monkeypatch.chdir(tmp_path)
    settings = {"SCORM_WEBHOOKS_LOCAL_KEY_FILE": str(file)}
    async with open_api(f"sqlite:///{tmp_path}/db.sqlite", settings=settings) as api, served(api.app) as url:
        write_local_key(file, make_local_key(url))
        yield api
