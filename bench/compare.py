"""Compares two commits by pairs of runs in turn, because a machine's speed changes from hour to hour."""

import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.calibration import TOLERANCE, is_steady, speed
from bench.environment import ROOT
from bench.results import RESULTS
from bench.table import cell

# The output of an experiment: one result a line.
Results = list[dict[str, Any]]


def compare(
    old: Annotated[str, typer.Option(help="A commit.")],
    new: Annotated[str, typer.Option(help="The commit to compare with it.")],
    experiment: Annotated[list[str], typer.Argument(metavar="EXPERIMENT [ARGS]...")],
    count: Annotated[int, typer.Option(help="Pairs of runs.")] = 5,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the new commit's runs in bench/results.")] = False,
) -> None:
    """Run an experiment on two commits in turn, and print the median ratio of each figure, new to old.

    Each commit has its own worktree and environment. Options of this command come before EXPERIMENT.
    """
    runs: list[tuple[Results, Results]] = []
    unsteady = 0
    # Older commits may not have this option.
    kept = {"old": [], "new": ["--results", str(RESULTS)] if keep else []}
    with ExitStack() as opened:
        trees = {name: opened.enter_context(_worktree(revision)) for name, revision in (("old", old), ("new", new))}
        for number in range(count):
            # The order within a pair alternates.
            order = ("old", "new") if number % 2 == 0 else ("new", "old")
            before = speed()
            done = {name: _run(name, trees[name], [*experiment, *kept[name]]) for name in order}
            runs.append((done["old"], done["new"]))
            unsteady += not is_steady(before, speed())
    print(ratios(runs))
    if unsteady:
        print(f"\nThe machine's speed changed by more than {TOLERANCE:.0%} during {unsteady} of {count} pairs.")


def ratios(runs: Sequence[tuple[Results, Results]]) -> str:
    """A markdown table of pairs of runs: each figure of the old and the new commit, and the median of new ÷ old.

    It omits what is the same in every run, such as parameters.
    """
    rows = ["| figure | old | new | median ratio |", "| --- | --- | --- | --- |"]
    pairs = [(_numbers(old), _numbers(new)) for old, new in runs]
    for name in dict.fromkeys(name for old, new in pairs for name in old if name in new):
        both = [(old[name], new[name]) for old, new in pairs if name in old and name in new]
        olds, news = zip(*both, strict=True)
        if len({*olds, *news}) == 1:
            continue
        found = [after / before for before, after in both if before]
        ratio = f"{statistics.median(found):.3f}" if found else "–"
        rows.append(f"| {name} | {cell(olds)} | {cell(news)} | {ratio} |")
    return "\n".join(rows)


def _numbers(results: Results) -> dict[str, float]:
    """All numbers of a run; with several results, the number of the result is part of the name."""
    many = len(results) > 1
    return {
        f"{place + 1}: {name}" if many else name: value
        for place, result in enumerate(results)
        for name, value in _leaves(result)
    }


def _leaves(figures: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", value


@contextmanager
def _worktree(revision: str) -> Iterator[Path]:
    """A checkout of a commit with an environment; removed after use."""
    with tempfile.TemporaryDirectory(prefix="bench-compare-") as folder:
        tree = Path(folder) / "tree"
        _call(ROOT, "git", "worktree", "add", "--quiet", "--detach", str(tree), revision)
        try:
            (tree / ".parts").symlink_to((ROOT / ".parts").resolve())
            _call(tree, "make", "setup")
            yield tree
        finally:
            _call(ROOT, "git", "worktree", "remove", "--force", str(tree))


def _run(name: str, tree: Path, experiment: Sequence[str]) -> Results:
    """Run an experiment of that commit."""
    print(f"{name}: {shlex.join(experiment)}", file=sys.stderr)
    said = _call(tree, ".venv/bin/python", "-m", "bench", *experiment, PYTHONPATH="tests:.")
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def _call(folder: Path, *command: str, **env: str) -> str:
    """Run a command and return its standard output; its errors are shown."""
    done = subprocess.run(command, cwd=folder, env={**os.environ, **env}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"`{shlex.join(command)}` failed with exit code {done.returncode}")
    return done.stdout
