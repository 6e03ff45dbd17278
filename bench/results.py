"""Runs of experiments, and the folder that keeps them: one file for each experiment, with a list of its runs."""

import inspect
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from bench.calibration import Speed, speed
from bench.environment import ROOT, Environment, environment

RESULTS = ROOT / "bench" / "results"

# One result, or an iterator of results; each has `experiment`, `settings` and its figures.
Result = Mapping[str, object]
Experiment = Callable[..., Result | Iterable[Result]]


class Run(TypedDict):
    """`settings` are those of the database, the broker and the stages; `date` is its end, in UTC.

    `speed` is that of the machine before and after it; runs kept by older releases have none.
    """

    experiment: str
    command: str
    parameters: dict[str, Any]
    figures: dict[str, Any]
    settings: dict[str, Any]
    environment: Environment
    date: str
    speed: NotRequired[tuple[Speed, Speed]]


def run_experiment(experiment: Experiment, arguments: Mapping[str, Any], folder: Path | None) -> list[Run]:
    """Run an experiment, and keep each result in `folder` as soon as it is there; None keeps nothing."""
    # Read before the run: the tree may change during it.
    begun_with, before = environment(), speed()
    bound = inspect.signature(experiment).bind(**arguments)
    bound.apply_defaults()
    results = experiment(*bound.args, **bound.kwargs)
    runs = []
    for result in [results] if isinstance(results, Mapping) else results:
        after = speed()
        run = _run(experiment, bound.arguments, result, begun_with, (before, after))
        before = after
        runs.append(run)
        if folder:
            keep(run, folder)
    return runs


def keep(run: Run, folder: Path) -> None:
    """Add a run to its experiment's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run['experiment']}.json"
    runs = [*(_runs_of(path) if path.exists() else []), run]
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n")
    fresh.replace(path)


def read_runs(folder: Path) -> list[Run]:
    """All kept runs, by experiment and in the order in which they ran."""
    return [run for path in sorted(folder.glob("*.json")) for run in _runs_of(path)]


def split_result(arguments: Mapping[str, Any], result: Result) -> tuple[dict[str, Any], dict[str, Any]]:
    """A result's parameters and its figures.

    If an argument is a list, each result belongs to one of its values and names it.
    """
    parameters = {
        name: _plain(result[name] if isinstance(value, list) and name in result else value)
        for name, value in arguments.items()
    }
    figures = {
        name: value
        for name, value in result.items()
        if name not in ("experiment", "settings") and (name not in parameters or parameters[name] != value)
    }
    return parameters, figures


def command_line(experiment: Experiment, parameters: Mapping[str, Any]) -> str:
    """The command of such a run, with the options that differ from the defaults."""
    words = [experiment.__name__.replace("_", "-")]
    for name, parameter in inspect.signature(experiment).parameters.items():
        value = parameters[name]
        if parameter.default is inspect.Parameter.empty:
            words.append(_word(value))
        elif value != _plain(parameter.default):
            words += _option(name.replace("_", "-"), value)
    return f'make bench ARGS="{shlex.join(words)}"'


def _run(
    experiment: Experiment,
    arguments: Mapping[str, Any],
    result: Result,
    begun_with: Environment,
    around: tuple[Speed, Speed],
) -> Run:
    parameters, figures = split_result(arguments, result)
    settings = result["settings"]
    assert isinstance(settings, dict)
    run: Run = {
        "experiment": str(result["experiment"]),
        "command": command_line(experiment, parameters),
        "parameters": parameters,
        "figures": figures,
        "settings": settings,
        "environment": begun_with,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "speed": around,
    }
    # Round trip through JSON, so that numeric keys are text as in kept runs.
    read_again: Run = json.loads(json.dumps(run))
    return read_again


def _runs_of(path: Path) -> list[Run]:
    runs: list[Run] = json.loads(path.read_text())
    return runs


def _plain(value: Any) -> Any:
    """The value as JSON types."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value.value if isinstance(value, Enum) else value


def _option(name: str, value: Any) -> Iterator[str]:
    if isinstance(value, bool):
        yield f"--{name}" if value else f"--no-{name}"
        return
    for each in value if isinstance(value, list) else [value]:
        yield from (f"--{name}", _word(each))


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
