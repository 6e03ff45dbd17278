"""Each release is listed once and is in the changelog; its schemas and migrations never change afterwards."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from release.entry import entry, frozen
from release.source import Source

ROOT = Path(__file__).parents[2]
TIME = datetime(2026, 12, 24, tzinfo=UTC)


def wrong(releases: list[dict[str, Any]], changelog: str, root: Path) -> list[str]:
    """What is wrong in a list of releases."""
    now = frozen(root)
    versions = [release["version"] for release in releases]
    found = [f"{version} is listed twice" for version in {*versions} if versions.count(version) > 1]
    for release in releases:
        if f"## {release['version']} ({release['date']})\n" not in changelog:
            found.append(f"CHANGELOG.md has no section {release['version']} with its date")
        if not re.fullmatch(r"[0-9a-f]{40}", release["commit"]):
            found.append(f"the commit of {release['version']} has 40 digits")
        changed = [name for name, value in release["frozen"].items() if now.get(name) != value]
        found += [f"{name} is part of {release['version']} and never changes" for name in changed]
    return found


def listed(text: str) -> list[dict[str, Any]]:
    releases: list[dict[str, Any]] = tomllib.loads(text).get("release", [])
    return releases


def test_the_releases_are_as_they_were() -> None:
    assert wrong(listed((ROOT / "releases.toml").read_text()), (ROOT / "CHANGELOG.md").read_text(), ROOT) == []


def test_the_entry_of_a_release_freezes_its_records_and_tables(tmp_path: Path) -> None:
    schema, migration = "schemas/history/a.1.avsc", "streams/adapters/sql/migrations/versions/0001_tables.py"
    for name in (schema, migration):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("first")
    releases = listed(entry(Source(tmp_path, "0.1.0", "a" * 40, TIME)))
    changelog = "## 0.1.0 (2026-12-24)\n"
    assert wrong(releases, changelog, tmp_path) == []
    (tmp_path / "schemas/history/a.2.avsc").write_text("a further version")
    assert wrong(releases, changelog, tmp_path) == []
    (tmp_path / schema).write_text("changed")
    assert wrong(releases, changelog, tmp_path) == [f"{schema} is part of 0.1.0 and never changes"]


def test_a_wrong_entry_is_found(tmp_path: Path) -> None:
    release = {"version": "0.1.0", "date": "2026-12-24", "commit": "main", "frozen": {}}
    assert wrong([release, release], "", tmp_path) == [
        "0.1.0 is listed twice",
        *["CHANGELOG.md has no section 0.1.0 with its date", "the commit of 0.1.0 has 40 digits"] * 2,
    ]
