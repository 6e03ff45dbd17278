"""A release does not begin unless it can be repeated and checked; each refusal is one line that says what to do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import parts
from release.building import name_image
from release.source import Refused, Source, read_source, refuse_bases, refuse_push, refuse_unready

PYPROJECT = '[project]\nname = "scorm-webhooks"\nversion = "0.1.0"\n'
FIXED = "python@sha256:" + "a" * 64
REPOSITORY = "registry.example.com/team/scorm-webhooks"
DIGEST = "sha256:" + "b" * 64
# The base of the image has no Git.
pytestmark = pytest.mark.slow


def git(root: Path, *arguments: str) -> None:
    person = ("-c", "user.name=A", "-c", "user.email=a@example.com")
    subprocess.run(["git", *person, *arguments], cwd=root, check=True, capture_output=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout of one commit."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n## 0.1.0 (2026-12-24)\n")
    (tmp_path / ".gitignore").write_text("/dist/\n")
    (tmp_path / "dist").mkdir()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


def green(root: Path) -> Source:
    """The checkout after a green run of CI."""
    source = read_source(root)
    (root / "dist" / "green").write_text(f"{source.commit}\n")
    return source


def test_a_clean_and_green_commit_is_released(root: Path) -> None:
    source = green(root)
    refuse_unready(source)
    assert source.version == "0.1.0"
    assert source.build == f"0.1.0+g{source.commit[:9]}"


@pytest.mark.parametrize("name", ["pyproject.toml", "new.py"])
def test_a_file_that_differs_from_the_commit_is_named(root: Path, name: str) -> None:
    with (root / name).open("a") as file:
        file.write("\n")
    with pytest.raises(Refused, match=rf"such as {name}; commit or remove"):
        read_source(root)


def test_a_version_without_a_date_in_the_changelog_is_refused(root: Path) -> None:
    (root / "CHANGELOG.md").write_text("# Changes\n\n## 0.1.0 (not released)\n")
    git(root, "commit", "--quiet", "--all", "--message", "Second")
    with pytest.raises(Refused, match=r'no "## 0\.1\.0 \(YYYY-MM-DD\)"; write its section'):
        refuse_unready(green(root))


def test_a_commit_that_ci_has_not_seen_is_refused(root: Path) -> None:
    with pytest.raises(Refused, match=r"run \.ci/run on this commit"):
        refuse_unready(read_source(root))
    green(root)
    git(root, "commit", "--quiet", "--allow-empty", "--message", "Second")
    with pytest.raises(Refused, match=r"run \.ci/run on this commit"):
        refuse_unready(read_source(root))


@pytest.mark.parametrize("base", ["", "python:3.13", "docker.io/library/python:3.13-slim"])
def test_a_base_that_may_change_is_refused(base: str) -> None:
    refuse_bases([FIXED, "localhost/base"])
    with pytest.raises(Refused, match="name the base of each processor by its digest"):
        refuse_bases([FIXED, base])


@pytest.mark.parametrize("push", ["", "registry.example.com", "https://registry.example.com/team", "a b/c", "host/"])
def test_a_registry_without_a_namespace_is_refused(push: str) -> None:
    refuse_push("127.0.0.1:5000/team")
    with pytest.raises(Refused, match=r"as registry\.example\.com/team"):
        refuse_push(push)


def test_the_chart_names_the_image_by_digest() -> None:
    values = (parts.ROOT / "deploy" / "helm" / "scorm-webhooks" / "values.yaml").read_text()
    named = name_image(values, REPOSITORY, DIGEST)
    assert f"  repository: {REPOSITORY}\n" in named
    assert f'  digest: "{DIGEST}"\n' in named
    assert len(named.splitlines()) == len(values.splitlines())
    with pytest.raises(ValueError, match=r"no image\.repository"):
        name_image("", REPOSITORY, DIGEST)


def test_a_refusal_is_one_line_without_a_traceback() -> None:
    command = [sys.executable, "-m", "release", "--base", "python:3.13"]
    env = {**os.environ, "PYTHONPATH": str(parts.ROOT / "tools")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("make release: ")
