"""The distribution `scorm-webhooks-cli`: the commands of an integrator, installed alone, and as one file."""

import os
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from real.built_package import ROOT, Installed, build_and_install
from scorm_webhooks_cli.root import CLIENT_GROUPS, COMMANDS

pytestmark = pytest.mark.slow

MAX_BYTES = 10 * 1024 * 1024
SERVER = ("api", "schemas", "streams", "aiohttp", "confluent_kafka", "fastapi", "pydantic", "sqlalchemy")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return build_and_install("client", tmp_path_factory.mktemp("client"))


def command(installed: Installed, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The result of a command of the installed program, in an empty folder without a profile."""
    return run([str(installed.folder / "bin" / "scorm-webhooks"), *arguments], installed.folder, variables)


def run(line: Sequence[str], folder: Path, variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "HOME": str(folder), **variables}
    return subprocess.run(line, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_every_command_explains_itself(installed: Installed) -> None:
    shown = command(installed, "--help").stdout
    for name in (*CLIENT_GROUPS, *COMMANDS):
        assert f" {name} " in shown
        done = command(installed, name, "--help")
        assert (done.returncode, "Usage: scorm-webhooks" in done.stdout) == (0, True), (name, done.stderr)


def test_nothing_of_the_server_is_there(installed: Installed) -> None:
    code = (
        "import sys; from importlib.util import find_spec; print(*(name for name in sys.argv[1:] if find_spec(name)))"
    )
    assert installed.run(code, *SERVER) == ""


def test_it_is_small_and_pure_python(installed: Installed) -> None:
    files = [path for path in installed.packages.rglob("*") if path.is_file()]
    assert [path for path in files if path.suffix in (".so", ".pyd")] == []
    assert sum(path.stat().st_size for path in files if path.suffix != ".pyc") <= MAX_BYTES


@pytest.mark.parametrize("arguments", [("webhooks", "list"), ("events", "publish", "-"), ("listen",), ("tail",)])
def test_without_an_api_it_says_how_to_name_one(installed: Installed, arguments: tuple[str, ...]) -> None:
    done = command(installed, *arguments)
    assert done.returncode == 2
    assert "or sign in with `scorm-webhooks login URL`" in done.stderr or "--account" in done.stderr, done.stderr


def test_an_api_that_is_away_is_exit_code_3(installed: Installed) -> None:
    target = {"SCORM_WEBHOOKS_API_URL": "http://127.0.0.1:1", "SCORM_WEBHOOKS_API_KEY": "sk_1"}
    done = command(installed, "webhooks", "list", **target)
    assert (done.returncode, "does not answer" in done.stderr) == (3, True)


def test_its_version_and_requirements_are_the_main_ones(installed: Installed) -> None:
    main, own = (
        tomllib.loads((ROOT / path).read_text())["project"] for path in ("pyproject.toml", "client/pyproject.toml")
    )
    assert command(installed, "--version").stdout.startswith(main["version"])
    assert own["requires-python"] == main["requires-python"]
    assert set(own["dependencies"]) <= set(main["dependencies"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_completes_commands(installed: Installed, shell: str) -> None:
    assert "_SCORM_WEBHOOKS_COMPLETE" in command(installed, "completion", shell).stdout
    line = "scorm-webhooks webhooks ro"
    words = {"COMP_WORDS": line, "COMP_CWORD": "2", "_TYPER_COMPLETE_ARGS": line}
    asked = {"_SCORM_WEBHOOKS_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert "rotate-secret" in command(installed, **words, **asked).stdout


def test_one_file_has_all_of_it(installed: Installed, tmp_path: Path) -> None:
    file = tmp_path / "scorm-webhooks"
    build = ["make", "client-file", f"CLIENT_FILE={file}", f"CLIENT_WHEEL={installed.wheel}"]
    made = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert file.stat().st_size <= MAX_BYTES
    done = run([str(file), "exam", "http://127.0.0.1:1", "--secret", f"whsec_{'A' * 32}", "--json"], tmp_path, {})
    assert done.returncode == 3, done.stderr
    assert run([str(file), "--version"], tmp_path, {}).stdout == command(installed, "--version").stdout
