"""Plays the whole test run six times, so that a test that fails now and then is found: three times beside busy loops.

The state is in a file: a stopped series goes on where it was. After a failure, the files that failed are played twenty
times, and then the six runs begin again. Each run has its own order of files. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".flaky.json"
RUNS, REPEATS = 6, 20
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/[\w/]+\.py)", re.MULTILINE)


@dataclass
class Run:
    """One whole run that passed."""

    commit: str
    date: str
    seed: int
    busy: bool
    minutes: float

    def __str__(self) -> str:
        machine = "busy" if self.busy else "idle"
        return f"| {self.date} | {self.commit} | {self.seed} | {machine} | {self.minutes:.1f} |"


@dataclass
class Series:
    """The runs that passed since the last failure, and the files that must pass alone before the next run."""

    runs: list[Run] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    repeats: int = 0

    @classmethod
    def load(cls, path: Path) -> Series:
        if not path.exists():
            return cls()
        stored = json.loads(path.read_text())
        return cls([Run(**run) for run in stored["runs"]], stored["failed"], stored["repeats"])

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def fail(self, files: list[str]) -> None:
        """Begin again after a failure of these files."""
        self.runs, self.repeats = [], 0
        self.failed = sorted({*self.failed, *files})

    @property
    def is_next_busy(self) -> bool:
        """Every second run and repeat is beside busy loops."""
        return (self.repeats if self.failed else len(self.runs)) % 2 == 1


@contextmanager
def busy_loops(count: int) -> Iterator[None]:
    """This many processes that use a core each."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def play(command: list[str], busy: bool, log: Path) -> tuple[int, float]:
    """Run a command with its output in `log`. Returns its exit code and minutes."""
    began = time.monotonic()
    with busy_loops((os.cpu_count() or 1) if busy else 0), log.open("w") as output:
        environ = {**os.environ, "CI": "true"}
        code = subprocess.run(command, cwd=ROOT, env=environ, stdout=output, stderr=output, check=False).returncode
    return code, (time.monotonic() - began) / 60


def repeat_failed(series: Series, log: Path) -> bool:
    """Play the files that failed until each has passed `REPEATS` times. Returns whether they did."""
    while series.failed and series.repeats < REPEATS:
        command = [".venv/bin/pytest", "-q", "-p", "no:cacheprovider", *series.failed]
        code, minutes = play(command, series.is_next_busy, log)
        print(f"repeat {series.repeats + 1} of {REPEATS}: {'failed' if code else 'passed'} in {minutes:.1f} min")
        if code:
            series.fail(FAILED.findall(log.read_text(errors="replace")))
            return False
        series.repeats += 1
        series.save(STATE)
    series.failed, series.repeats = [], 0
    return True


def run_all(series: Series, log: Path) -> bool:
    """Play whole runs until `RUNS` of them have passed. Returns whether they did."""
    while len(series.runs) < RUNS:
        seed, busy = random.randrange(10**6), series.is_next_busy
        code, minutes = play(["make", "test", f"ARGS=--shuffle-files {seed}"], busy, log)
        if code:
            files = FAILED.findall(log.read_text(errors="replace"))
            machine = "busy" if busy else "idle"
            print(f"run {len(series.runs) + 1} failed (seed {seed}, {machine}): {', '.join(files) or log}")
            series.fail(files)
            return False
        series.runs.append(Run(_commit(), datetime.date.today().isoformat(), seed, busy, round(minutes, 1)))
        series.save(STATE)
        print(series.runs[-1], flush=True)
    return True


def _commit() -> str:
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make flaky", description=__doc__)
    parser.add_argument("--begin-again", action="store_true", help="forget what has passed")
    given = parser.parse_args()
    series = Series() if given.begin_again else Series.load(STATE)
    log = ROOT / ".flaky.log"
    try:
        passed = repeat_failed(series, log) and run_all(series, log)
    finally:
        series.save(STATE)
    if not passed:
        print(f"The output is in {log.name}. Fix the test or the program, commit, and run `make flaky` again.")
        return 1
    print("| date | commit | seed | machine | minutes |\n|---|---|---|---|---|", *series.runs, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
