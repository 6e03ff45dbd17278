"""A build says which commit it is of."""

import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from streams import build

ROOT = Path(__file__).parents[2]
# Not a module of the wheel.
HOOK = runpy.run_path(str(ROOT / "hatch_build.py"))
commit_of = HOOK["commit_of"]


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.com")
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


# The base of the image has no Git.
@pytest.mark.slow
def test_a_commit_is_named_and_a_change_of_it_too(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == ""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "file").write_text("1")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    commit = git(tmp_path, "rev-parse", "--short=9", "HEAD")
    assert commit_of(tmp_path) == commit
    (tmp_path / "file").write_text("2")
    assert commit_of(tmp_path) == f"{commit}.dirty"


def test_the_version_of_a_build_has_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_COMMIT_FILE", tmp_path / "commit.txt")
    monkeypatch.setattr(build, "_GIT_FOLDER", tmp_path / ".git")
    build.build_version.cache_clear()
    release = build.build_version()
    assert "+" not in release
    (tmp_path / "commit.txt").write_text("7ab3c21f0\n")
    build.build_version.cache_clear()
    assert build.build_version() == f"{release}+g7ab3c21f0"
    build.build_version.cache_clear()


@pytest.mark.slow
def test_the_version_of_a_checkout_has_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_COMMIT_FILE", tmp_path / "commit.txt")
    monkeypatch.setattr(build, "_GIT_FOLDER", tmp_path / ".git")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "one")
    commit = git(tmp_path, "rev-parse", "--short=9", "HEAD")
    for act in (["status"], ["pack-refs", "--all"], ["checkout", "--quiet", "--detach"]):
        git(tmp_path, *act)
        build.build_version.cache_clear()
        assert build.build_version().endswith(f"+g{commit}")
    build.build_version.cache_clear()


@pytest.mark.slow
def test_a_wheel_has_the_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCORM_WEBHOOKS_COMMIT", "7ab3c21f0")
    command = ["hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(HOOK["COMMIT_FILE"]) == b"7ab3c21f0\n"
