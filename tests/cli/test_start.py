"""What a command has to import before it does anything."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from scorm_webhooks_cli.api_variables import KEY_VARIABLE, URL_VARIABLE
from streams.cli.app import app
from streams.cli.commands import GROUPS
from streams.core.errors import Misconfigured
from streams.settings import load_settings

# What a command over HTTP needs; a closed port, so that it ends when all is imported.
LIST_MODULES = """
import sys
from typer.testing import CliRunner
from streams.cli.commands import create_app
for group in ("accounts", "usage", "webhooks", "events", "deliveries", "dead-letters", "jobs", "learners"):
    create_app([group])
ended = CliRunner().invoke(create_app(["webhooks"]), ["webhooks", "list"])
assert "does not answer" in str(ended.exception), ended
print(*sys.modules)
"""
HEAVY = {"fastapi", "starlette", "jinja2", "faust", "sqlalchemy", "confluent_kafka", "structlog"}


def test_a_command_by_http_imports_no_server() -> None:
    env = {**os.environ, "SCORM_WEBHOOKS_API_URL": "http://127.0.0.1:1", "SCORM_WEBHOOKS_API_KEY": "sk_1"}
    done = subprocess.run([sys.executable, "-c", LIST_MODULES], capture_output=True, text=True, check=True, env=env)
    assert HEAVY.isdisjoint(done.stdout.split())


def test_servers_ignore_the_variables_of_commands() -> None:
    load_settings({URL_VARIABLE: "x", KEY_VARIABLE: "x"})


def test_a_command_in_another_folder_makes_no_second_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    ended = CliRunner().invoke(app, ["accounts", "list"])
    assert isinstance(ended.exception, Misconfigured)
    assert "or, on the system's own machine, start `scorm-webhooks up`" in str(ended.exception)
    assert list(tmp_path.iterdir()) == []


# Each group in a process of its own, which has imported no other; what has no commands is imported once for all.
COMMANDS = """
import os
import streams.runtime.bootstrap
from streams.cli.commands import GROUPS, create_app
for name in GROUPS:
    if os.fork() == 0:
        groups = create_app([name]).registered_groups
        commands = next(group.typer_instance for group in groups if group.name == name).registered_commands
        print(name, *sorted(command.name for command in commands), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


def test_a_group_has_all_its_commands_when_it_is_asked_for_alone() -> None:
    done = subprocess.run([sys.executable, "-c", COMMANDS], capture_output=True, text=True, check=True)
    whole = {group.name: group.typer_instance for group in app.registered_groups if group.typer_instance}
    for line in done.stdout.splitlines():
        name, *commands = line.split()
        assert commands == sorted(command.name or "" for command in whole.pop(name).registered_commands)
    assert not whole.keys() & GROUPS
