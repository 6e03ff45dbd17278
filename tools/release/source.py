"""What is released: a commit, its version and its time; and what stops a release before it begins."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

# A green `.ci/run` writes its commit here.
GREEN = Path("dist", "green")
_HEADING = r"^## {} \((.*)\)$"
_PUSH = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+")


class Refused(Exception):
    """A release does not begin, or ends early; the message is one line that says what to do."""


@dataclass(frozen=True)
class Source:
    """A clean checkout. `time` is that of its commit, which every file of the release has."""

    root: Path
    version: str
    commit: str
    time: datetime

    @property
    def epoch(self) -> int:
        return int(self.time.timestamp())

    @property
    def build(self) -> str:
        """The version with the commit, as `scorm-webhooks --version` prints it."""
        return f"{self.version}+g{self.commit[:9]}"


def read_source(root: Path) -> Source:
    """The commit of a checkout. Raises `Refused` where files differ from it."""
    if changed := _git(root, "status", "--porcelain"):
        raise Refused(f"files differ from the commit, such as {changed.split()[1]}; commit or remove them")
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    commit, seconds = _git(root, "log", "-1", "--format=%H %ct").split()
    return Source(root, version, commit, datetime.fromtimestamp(int(seconds), UTC))


def refuse_unready(source: Source) -> None:
    """Raises `Refused` unless the changelog has the version and CI was green."""
    heading = re.search(
        _HEADING.format(re.escape(source.version)), (source.root / "CHANGELOG.md").read_text(), re.MULTILINE
    )
    if heading is None or not re.fullmatch(r"\d{4}-\d\d-\d\d", heading[1]):
        raise Refused(f'CHANGELOG.md has no "## {source.version} (YYYY-MM-DD)"; write its section, with the date')
    green = source.root / GREEN
    if not green.exists() or green.read_text().strip() != source.commit:
        raise Refused(f"{GREEN} does not name {source.commit[:9]}; run .ci/run on this commit until it is green")


def refuse_bases(bases: Sequence[str]) -> None:
    """Raises `Refused` for a base whose name may lead to another image tomorrow."""
    for base in bases:
        if "@sha256:" not in base and not base.startswith("localhost/"):
            raise Refused(
                f"BASE: {base or 'nothing'} is not fixed; name the base of each processor by its digest (…@sha256:…)"
            )


def refuse_push(push: str) -> None:
    if not _PUSH.fullmatch(push):
        raise Refused(f"PUSH: {push} is no registry with a namespace; write it as registry.example.com/team")


def require_programs(*names: str) -> None:
    if missing := [name for name in names if not shutil.which(name)]:
        raise Refused(f"{', '.join(missing)} not found on PATH; CONTRIBUTING.md says how to get what a release needs")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()
