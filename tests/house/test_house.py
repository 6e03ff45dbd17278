"""Rules of the repository: imports, locks, the wheel and the licence."""

import ast
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("streams", "schemas", "api", "client/scorm_webhooks_cli")
# Clocks, random numbers and event loops of the standard library: core takes them as arguments.
IMPURE = {"asyncio", "logging", "random", "secrets", "time"}


def files_of(*folders: str) -> list[str]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file())
    return sorted(str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts)


def imports(path: str) -> Iterator[str]:
    """The modules that a file imports, without relative imports."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module)


def test_imports_go_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    output = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert output.returncode == 0, output.stdout + output.stderr


def test_no_admin_client_asks_for_the_offsets_of_a_group() -> None:
    # It ends the process by SIGSEGV while the group's coordinator loads (librdkafka 2.16.0).
    called = "list_consumer_group_offsets"
    assert [path for path in files_of(*PACKAGES) if path.endswith(".py") and called in (ROOT / path).read_text()] == []


def test_the_outages_of_a_process_are_made_in_one_place() -> None:
    # Parts that do not share them log the same outage several times.
    made = [path for path in files_of(*PACKAGES) if path.endswith(".py") and " Outages(" in (ROOT / path).read_text()]
    assert made == ["streams/runtime/deployment.py"]


def test_the_core_is_pure() -> None:
    allowed = sys.stdlib_module_names - IMPURE
    unexpected = [
        f"{path}: {module}"
        for path in files_of("streams/core")
        if path.endswith(".py")
        for module in imports(path)
        if not module.startswith("streams.core") and module.split(".")[0] not in allowed
    ]
    assert unexpected == []


@pytest.mark.parametrize(
    ("stage", "parts", "without"),
    [
        ("fan-out", ["faust.client"], ["sqlalchemy", "psycopg", "cryptography"]),
        ("deliver", ["replay_lookup", "encryption"], ["sqlalchemy", "faust", "aiosqlite"]),
        (
            "background",
            ["sql.engine.schema_check"],
            ["aiohttp", "alembic", "email_validator", "faust", "fastapi", "jinja2", "uvicorn"],
        ),
    ],
)
def test_a_stage_imports_only_what_it_needs(stage: str, parts: list[str], without: list[str]) -> None:
    made_by, command = ("sql_stages", "run") if stage == "background" else ("stages", stage)
    process = ("streams.__main__", "streams.cli.stages", "streams.runtime.process")
    modules = [*process, f"streams.runtime.{made_by}", *(f"streams.adapters.{part}" for part in parts)]
    started = f"streams.__main__.load_commands(['{command}'])"
    loaded = f"import sys, {', '.join(modules)}; {started}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert {*without, "rich"}.isdisjoint(output.stdout.split())


NODE_LOCKS = sorted(
    [*(ROOT / "tests" / "real").glob("*/package-lock.json"), *(ROOT / "examples").rglob("package-lock.json")]
)


def test_the_locks_for_node_are_found() -> None:
    assert {lock.parent.name for lock in NODE_LOCKS} >= {"verifiers", "clients", "axe", "oidc", "node"}


@pytest.mark.parametrize("path", NODE_LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_for_node_names_no_host(path: Path) -> None:
    lock = path.read_text()
    assert '"integrity": "sha512-' in lock
    assert "://" not in lock


LOCKS = [*files_of("requirements"), "examples/receivers/requirements.txt", "tests/real/kube/requirements.txt"]


@pytest.mark.parametrize("path", LOCKS)
def test_locks_name_hashes_and_no_host(path: str) -> None:
    lock = (ROOT / path).read_text()
    assert "--hash=sha256:" in lock
    assert "://" not in lock
    assert "--index" not in lock


def test_the_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    build: list[str | Path] = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    shipped = set(zipfile.ZipFile(wheel).namelist())
    assert {path.removeprefix("client/") for path in files_of(*PACKAGES)} - shipped == set()
    assert any(name.endswith("licenses/LICENSE") for name in shipped)


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only CI tests the wheel")
@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_tested_is_what_is_shipped(package: str) -> None:
    loaded = __import__(package.removeprefix("client/")).__file__
    assert loaded
    assert Path(loaded).is_relative_to(sysconfig.get_path("purelib"))


def test_tests_with_git_are_not_fast() -> None:
    # The fast tests run in the base of the image too, which has no Git.
    marks = ("mark.slow", "mark.release", "mark.e2e")
    files = [
        path
        for path in files_of("tests")
        if Path(path).name.startswith("test_") and path != "tests/house/test_house.py"
    ]
    texts = {path: (ROOT / path).read_text() for path in files if path.endswith(".py")}
    assert [path for path, text in texts.items() if '["git"' in text and not any(mark in text for mark in marks)] == []


def test_ci_lists_what_it_skips() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    runs = [line for line in lines if ".venv-wheel/bin/pytest -" in line and "--collect-only" not in line]
    assert runs
    assert [line for line in runs if " -rs " not in line] == []


def test_the_licence_is_apache_2() -> None:
    licence = (ROOT / "LICENSE").read_text()
    assert "Apache License" in licence
    assert "Version 2.0, January 2004" in licence
