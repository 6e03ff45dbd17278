"""What a command has to import before it does anything."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.commands import GROUPS
from streams.core.errors import Misconfigured

LIST_MODULES = """
import importlib, pkgutil, sys
import api, streams.cli
for package in (api, streams.cli):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if package is streams.cli or module.name.endswith("models"):
            importlib.import_module(module.name)
print(*sys.modules)
"""


def test_a_command_does_not_import_the_web_framework() -> None:
    done = subprocess.run([sys.executable, "-c", LIST_MODULES], capture_output=True, text=True, check=True)
    assert {"fastapi", "starlette", "jinja2", "faust"}.isdisjoint(done.stdout.split())


def test_a_command_in_another_folder_makes_no_second_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    ended = CliRunner().invoke(app, ["accounts", "list"])
    assert isinstance(ended.exception, Misconfigured)
    assert f"{tmp_path}/.scorm-webhooks has no system" in str(ended.exception)
    assert list(tmp_path.iterdir()) == []


COMMANDS = """
import sys
from streams.cli.commands import create_app
app = create_app(sys.argv[1:])
for group in app.registered_groups:
    if group.name in sys.argv:
        print(*sorted(command.name for command in group.typer_instance.registered_commands))
"""


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_has_all_its_commands_when_it_is_asked_for_alone(group: str) -> None:
    done = subprocess.run([sys.executable, "-c", COMMANDS, group], capture_output=True, text=True, check=True)
    whole = next(one.typer_instance for one in app.registered_groups if one.name == group)
    assert whole is not None
    assert done.stdout.split() == sorted(command.name or "" for command in whole.registered_commands)
