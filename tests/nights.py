"""Plays a night: its parts in turn, also after one has failed, and then its line in tests/NIGHTS.md.

`python3 tests/nights.py` plays each part that this commit has not been played with; names of parts play just these.
What was played is in `.night/`, so a night may be stopped, and go on. The line is written when each part has a result;
it names the commit of a part that was played on another one. This file uses the standard library alone.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NIGHTS = ROOT / "tests" / "NIGHTS.md"
FOLDER = ROOT / ".night"
RESULTS = FOLDER / "results.json"
# Each part, and what `make` plays of it.
PARTS = {
    "day": ["night-tests", "TESTS=not night"],
    # It builds images and measures: with six processes, time limits were reached.
    "night": ["night-tests", "TESTS=night", "WORKERS=4"],
    "pythons": ["pythons", "ARGS="],
    "chaos": ["night-chaos"],
    "kubernetes": ["kube", "ARGS="],
    "release": ["release-test", "ARGS="],
    "upgrade": ["upgrade-drill", "ARGS="],
}
# The last line of a run of pytest, with or without its frame.
SUMMARY = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+, )*\d+ [a-z]+) in \d+\.\d+s")
NOT_BUILT = "left out: tests on a real Kubernetes"


@dataclass(frozen=True)
class Result:
    """What came of one part; `is_left_out`: this machine cannot play it."""

    commit: str
    minutes: float
    passed: int
    failed: int
    is_left_out: bool = False

    def __str__(self) -> str:
        if self.is_left_out:
            return "left out: not built here"
        return f"{self.passed} passed, {self.failed} failed, {self.minutes:.1f} min"


def load() -> dict[str, Result]:
    stored = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {part: Result(**values) for part, values in stored.items() if part in PARTS}


def save(results: dict[str, Result]) -> None:
    fresh = RESULTS.with_suffix(".fresh")
    fresh.write_text(json.dumps({part: asdict(result) for part, result in results.items()}, indent=1) + "\n")
    fresh.replace(RESULTS)  # atomic: a night may be killed


def play(part: str, commit: str) -> Result:
    """Play a part, with its output here and in a file."""
    start, lines = time.monotonic(), []
    with (FOLDER / f"{part}.log").open("w") as log:
        made = subprocess.Popen(
            ["make", *PARTS[part]],
            cwd=ROOT,
            env={**os.environ, "CI": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        assert made.stdout
        for line in made.stdout:
            lines.append(line)
            print(line, end="", flush=True)
            log.write(line)
    return result_of(lines, made.wait(), commit, (time.monotonic() - start) / 60)


def result_of(lines: Iterable[str], code: int, commit: str, minutes: float) -> Result:
    """The result of a part by its output and exit code; a code of failure without a count is one failure."""
    passed = failed = 0
    is_left_out = False
    for line in lines:
        is_left_out |= line.startswith(NOT_BUILT)
        if found := SUMMARY.match(line):
            counts = {word: int(count) for count, word in re.findall(r"(\d+) ([a-z]+)", found[1])}
            passed += counts.get("passed", 0)
            failed += sum(counts.get(word, 0) for word in ("failed", "error", "errors"))
    return Result(commit, round(minutes, 1), passed, failed or int(code != 0), is_left_out)


def line_of(date: str, commit: str, results: dict[str, Result]) -> str:
    """The line of a night in the table."""
    played = {part: result for part, result in results.items() if not result.is_left_out}
    minutes = sum(result.minutes for result in played.values())
    red = [f"{result.failed} ({part})" for part, result in played.items() if result.failed]
    notes = [f"{part} not built" for part in results.keys() - played.keys()]
    notes += [f"{part} of {result.commit}" for part, result in played.items() if result.commit != commit]
    tests = sum(result.passed for result in played.values())
    return f"| {date} | {commit} | {minutes:.0f} | {tests} | {', '.join(red) or 0} | {', '.join(notes) or '–'} |"


def newest_night() -> str:
    """The newest line of the table; empty if there is none."""
    rows = [line for line in NIGHTS.read_text().splitlines() if re.match(r"\| \d{4}-", line)]
    return rows[-1] if rows else ""


def commit_to_play() -> str:
    """The newest commit that changes more than the table of nights."""
    return git("log", "-1", "--format=%h", "--abbrev=9", "--", ".", f":!{NIGHTS.relative_to(ROOT)}")


def has_changes() -> bool:
    return bool(git("status", "--porcelain", "--", ".", f":!{NIGHTS.relative_to(ROOT)}"))


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make nightly", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)} (default: what is not played)")
    given = parser.parse_args()
    if unknown := set(given.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    if has_changes():
        parser.error("this checkout has changes without a commit; a night is of a commit")
    FOLDER.mkdir(exist_ok=True)
    commit, results = commit_to_play(), load()
    to_play = given.parts or [part for part in PARTS if part not in results or results[part].commit != commit]
    for part in to_play:
        print(f"-- {part} --", flush=True)
        results[part] = play(part, commit)
        save(results)
    for part, result in results.items():
        print(f"{part}: {result}" + ("" if result.commit == commit else f" ({result.commit})"))
    if to_play and results.keys() == PARTS.keys():
        line = line_of(datetime.date.today().isoformat(), commit, {part: results[part] for part in PARTS})
        with NIGHTS.open("a") as table:
            print(line, file=table)
        print(f"{line}\nCommit tests/NIGHTS.md alone.")
    return int(any(result.failed for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
