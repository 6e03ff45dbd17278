"""Experiments as commands."""

import inspect
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.results import RESULTS, Experiment, run_experiment

Keep = Annotated[bool, typer.Option(help="Keep the result in the folder of results.")]
Results = Annotated[Path, typer.Option(help="The folder of results.", show_default="bench/results")]


def as_command(experiment: Experiment) -> Callable[..., None]:
    """A command with the experiment's parameters, and options for its result."""

    @wraps(experiment)
    def run(*, keep: bool, results: Path, **arguments: Any) -> None:
        run_experiment(experiment, arguments, results if keep else None)

    kind = inspect.Parameter.KEYWORD_ONLY
    own = [parameter.replace(kind=kind) for parameter in inspect.signature(experiment).parameters.values()]
    ours = [
        inspect.Parameter("keep", kind, default=True, annotation=Keep),
        inspect.Parameter("results", kind, default=RESULTS, annotation=Results),
    ]
    # Typer reads the options from it.
    run.__signature__ = inspect.Signature([*own, *ours])  # type: ignore[attr-defined]
    return run
