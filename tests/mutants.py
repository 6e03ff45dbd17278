"""Measures how many mutants of the code the fast tests kill, with mutmut, on a random sample of each part.

`python3 tests/mutants.py MUTMUT [PART …]` works on a copy of the checkout, in a temporary folder. It prints the score
of each part and the mutants that survived; `mutmut show NAME` in that folder shows one. This file uses the standard
library alone.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("api", "client", "docs", "examples", "schemas", "streams", "tests", "tools", "README.md", "pyproject.toml")
SLOW_TOO = "not real and not e2e and not chaos and not kube"
FAST = f"{SLOW_TOO} and not slow"
# Learners' sessions are rules of core, and their tests are the player's.
SESSIONS = (
    "course_sessions/commit",
    "course_sessions/progress",
    "course_sessions/session",
    "course_sessions/changes",
    "course_sessions/player_state",
    "course_sessions/scorm_time",
)
SERVICES = (
    "accounts/access",
    *(f"{name}/service" for name in ("course_sessions", "replays", "sign_in", "usage", "webhooks")),
)
OF_SERVICES = (
    "core/test_access.py",
    "features/course_sessions/test_progress.py",
    "features/course_sessions/test_ends.py",
    "features/course_sessions/test_player_state.py",
    "dashboard/test_sign_in_pages.py",
    "features/course_sessions/test_sessions.py",
    "rest/test_accounts.py",
    "rest/test_permissions.py",
    "rest/test_recipients.py",
    "rest/test_replays.py",
    "rest/test_sign_in.py",
    "rest/test_usage.py",
    "rest/test_webhooks.py",
)
# mutmut 3.7 counts a mutant as killed when pytest does not find a test that it names.
NAMEABLE = '''"""Leaves out the tests whose ids mutmut cannot name."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if "\\\\" not in item.nodeid]
'''
# The files that are mutated, the tests, and which of them.
PARTS: dict[str, tuple[list[str], list[str], str]] = {
    "core": (["streams/core/*"], ["tests/core", "tests/stages"], FAST),
    "stages": (["streams/stages/*"], ["tests/core", "tests/stages"], FAST),
    "services": (
        [f"streams/features/{name}.py" for name in SERVICES],
        [f"tests/{name}" for name in OF_SERVICES],
        SLOW_TOO,
    ),
    "sessions": (
        [f"streams/features/{name}.py" for name in SESSIONS] + ["streams/core/accounts/session.py"],
        [f"tests/{name}" for name in OF_SERVICES],
        SLOW_TOO,
    ),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests/mutants.py", description=__doc__)
    parser.add_argument("mutmut", help="the program")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--sample", type=int, default=200, help="mutants of each part (default: 200; 0 takes all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default: 1)")
    given = parser.parse_args()
    for part in given.parts or PARTS:
        folder = copy_of_the_checkout(part)
        results = measure(Path(given.mutmut).absolute(), folder, given.sample, given.seed)
        print(f"{part}: {score(results)}; in {folder}")
        print(*(f"  {name}" for name, result in sorted(results.items()) if result == "survived"), sep="\n", flush=True)
    return 0


def copy_of_the_checkout(part: str) -> Path:
    """A copy of what mutmut and the tests read, with mutmut's settings for this part."""
    folder = Path(tempfile.mkdtemp(prefix=f"mutants-{part}-"))
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, folder / name)
    (folder / "conftest.py").write_text(NAMEABLE)
    mutated, tests, marks = PARTS[part]
    settings = {
        "source_paths": ["streams"],
        "only_mutate": mutated,
        "also_copy": ["conftest.py", *COPIED],
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-m", marks],
        "pytest_add_cli_args_test_selection": tests,
    }
    # A list of texts in JSON is one in TOML.
    lines = ["\n[tool.mutmut]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items())]
    with (folder / "pyproject.toml").open("a") as file:
        print(*lines, sep="\n", file=file)
    return folder


def measure(mutmut: Path, folder: Path, sample: int, seed: int) -> dict[str, str]:
    """The result of each mutant of a random sample, by name."""
    # mutmut makes its mutants, and finds the tests of each, before it notices that none has this name.
    run(mutmut, folder, "run", "none", check=False)
    names = sorted(results_of(mutmut, folder))
    if not names:
        sys.exit(f"no mutants: run `mutmut run` in {folder} and read why")
    chosen = set(random.Random(seed).sample(names, min(sample or len(names), len(names))))
    run(mutmut, folder, "run", "--max-children", "1", *(sorted(chosen) if sample else ()))
    return {name: result for name, result in results_of(mutmut, folder).items() if name in chosen}


def results_of(mutmut: Path, folder: Path) -> dict[str, str]:
    lines = run(mutmut, folder, "results", "--all", "true").splitlines()
    return dict(line.strip().split(": ", 1) for line in lines if "__mutmut_" in line)


def run(mutmut: Path, folder: Path, *arguments: str, check: bool = True) -> str:
    done = subprocess.run([mutmut, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"mutmut {arguments[0]} failed in {folder}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def score(results: dict[str, str]) -> str:
    """Killed among those that a test ran; the others by what came of them."""
    counts = Counter(results.values())
    judged = counts["killed"] + counts["survived"]
    others = ", ".join(f"{number} {result}" for result, number in sorted(counts.items()))
    return f"{counts['killed'] / max(judged, 1):.0%} of {judged} killed ({others})"


if __name__ == "__main__":
    sys.exit(main())
