"""Releases, each in an environment of its own: published ones, this checkout, and two made-up ones after it."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import parts
from fakes import newer_schemas
from migration import next_revision
from streams.adapters.sql.engine.schema_check import revisions

ADDED = "of the release that writes it"
READING, WRITING = "9.1.0", "9.2.0"
DELIVERY = Path("streams", "core", "deliveries", "delivery.py")
# The last field of a delivery, and the one after it.
LAST_FIELD = "    trace_parent: str | None = None\n\n    def __repr__"
NEW_FIELD = "    added_later: str | None = None\n\n    def __repr__"
MIGRATION = """\
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("added_later", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("deliveries", "added_later")
"""


@dataclass(frozen=True)
class Build:
    """A release, and the Python that runs it."""

    name: str
    python: Path


def released_commit() -> str:
    """The commit of the newest release, or the one in UPGRADE_FROM; empty as long as nothing is released."""
    listed = tomllib.loads((parts.ROOT / "releases.toml").read_text()).get("release", [])
    return os.environ.get("UPGRADE_FROM") or (str(listed[-1]["commit"]) if listed else "")


def build(name: str, source: Path, folder: Path) -> Build:
    """The wheel of a source, in an environment with the packages of its own lock."""
    wheels, python = folder / f"{name}-wheel", folder / f"{name}-env"
    install = (parts.uv(), "pip", "install", "--quiet", "--python", python)
    _run(parts.uv(), "build", "--quiet", "--wheel", source, "--out-dir", wheels)
    _run(parts.uv(), "venv", "--quiet", "--python", sys.executable, python)
    _run(*install, "--require-hashes", "-r", source / "requirements" / "run.txt")
    _run(*install, "--no-deps", *wheels.glob("*.whl"))
    return Build(name, python / "bin" / "python")


def source_of_commit(commit: str, target: Path) -> Path:
    """A copy of the checkout at a commit. Ends the process where there is no such commit."""
    known = ("git", "-C", parts.ROOT, "rev-parse", "--quiet", "--verify", f"{commit}^{{commit}}")
    if subprocess.run(known, capture_output=True, check=False).returncode:
        sys.exit(f"there is no commit {commit} here; fetch it, or name another one by FROM=")
    _run("git", "clone", "--quiet", "--no-tags", parts.ROOT, target)
    _run("git", "-C", target, "checkout", "--quiet", commit)
    return target


def source_that_reads(target: Path) -> Path:
    """A copy of this checkout which knows one more field of a delivery, and one more column, and writes neither.

    Its steps are those of CONTRIBUTING.md, for the first release after a change of a schema.
    """
    listed = ("git", "-C", parts.ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")):
        if (parts.ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(parts.ROOT / name, target / name)
    for name, versions in newer_schemas().items():
        (target / "schemas" / "history" / f"{name}.{len(versions)}.avsc").write_text(json.dumps(versions[-1]))
    _replace(target / DELIVERY, LAST_FIELD, LAST_FIELD.replace("\n\n    def __repr__", f"\n{NEW_FIELD}"))
    head = revisions()[-1]
    text = MIGRATION.format(revision=next_revision(head), head=head)
    (target / "streams/adapters/sql/migrations/versions" / f"{next_revision(head)[:4]}_made_up.py").write_text(text)
    _set_version(target, READING)
    return target


def source_that_writes(before: Path, target: Path) -> Path:
    """The release after that one: it writes the new version too, and gives the field a value."""
    shutil.copytree(before, target)
    for name, versions in newer_schemas().items():
        (target / "schemas" / f"{name}.avsc").write_text(json.dumps(versions[-1]))
    _replace(target / DELIVERY, NEW_FIELD, NEW_FIELD.replace("= None", f'= "{ADDED}"'))
    _set_version(target, WRITING)
    return target


def _set_version(source: Path, version: str) -> None:
    project = source / "pyproject.toml"
    current = tomllib.loads(project.read_text())["project"]["version"]
    _replace(project, f'version = "{current}"', f'version = "{version}"')


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path} has no place for the made-up change; bring tests/chaos/builds.py up to date"
    path.write_text(text.replace(old, new))


def _run(*command: str | Path) -> None:
    subprocess.run(command, cwd=parts.ROOT, check=True)
