"""A kept run has its parameters, figures, command and environment."""

import json
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from bench.commands import as_command
from bench.environment import environment
from bench.results import Result, command_line, read_runs, run_experiment, split_result


class Way(StrEnum):
    FAST = "fast"
    SLOW = "slow"


RATES = [30.0, 150.0]


def one(way: Way, rate: float = 50, loud: bool = False) -> Result:
    return {"experiment": "one", "settings": {"kafka": {}}, "rate": rate, "p99_ms": 12.5}


def several(rate: Annotated[list[float], typer.Option()] = RATES) -> Iterator[Result]:
    for each in rate:
        yield {"experiment": "several", "settings": {}, "rate": each, "p99_ms": each / 10}


def breaks(rate: Annotated[list[float], typer.Option()] = RATES) -> Iterator[Result]:
    yield {"experiment": "breaks", "settings": {}, "rate": rate[0], "p99_ms": 3}
    raise RuntimeError("the second one")


def test_a_run_keeps_parameters_and_figures_apart(tmp_path: Path) -> None:
    run_experiment(one, {"way": Way.SLOW}, tmp_path)
    (run,) = read_runs(tmp_path)
    assert run["parameters"] == {"way": "slow", "rate": 50, "loud": False}
    assert run["figures"] == {"p99_ms": 12.5}


def test_a_run_has_its_environment(tmp_path: Path) -> None:
    run_experiment(one, {"way": Way.SLOW}, tmp_path)
    (run,) = json.loads((tmp_path / "one.json").read_text())
    assert run["settings"] == {"kafka": {}}
    assert run["environment"].keys() == {"machine", "python", "commit", "dirty"}
    assert run["environment"]["machine"].keys() == {"cpu", "cores", "memory_gb", "kernel", "filesystem"}
    assert run["date"].endswith("+00:00")
    assert [set(speed) for speed in run["speed"]] == [{"python_ms", "calls_ms"}] * 2


def test_a_second_run_is_added_to_the_first(tmp_path: Path) -> None:
    for way in Way:
        run_experiment(one, {"way": way}, tmp_path)
    assert [run["parameters"]["way"] for run in read_runs(tmp_path)] == ["fast", "slow"]


def test_each_result_of_several_is_a_run(tmp_path: Path) -> None:
    run_experiment(several, {}, tmp_path)
    assert [(run["parameters"]["rate"], run["figures"]) for run in read_runs(tmp_path)] == [
        (30, {"p99_ms": 3}),
        (150, {"p99_ms": 15}),
    ]


def test_results_before_a_failure_are_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        run_experiment(breaks, {}, tmp_path)
    assert len(read_runs(tmp_path)) == 1


def test_without_a_folder_nothing_is_kept(tmp_path: Path) -> None:
    assert len(run_experiment(several, {}, None)) == 2
    assert read_runs(tmp_path) == []


def test_a_figure_may_share_a_parameters_name() -> None:
    parameters, figures = split_result({"requests": 200}, {"experiment": "listing", "requests": 2000})
    assert (parameters, figures) == ({"requests": 200}, {"requests": 2000})


def test_a_command_has_options_that_differ_from_defaults() -> None:
    plain = {"way": "fast", "rate": 50, "loud": False}
    assert command_line(one, plain) == 'make bench ARGS="one fast"'
    assert command_line(one, {**plain, "rate": 30.5, "loud": True}) == 'make bench ARGS="one fast --rate 30.5 --loud"'
    assert command_line(several, {"rate": 30.0}) == 'make bench ARGS="several --rate 30"'
    assert command_line(several, {"rate": [1, 2]}) == 'make bench ARGS="several --rate 1 --rate 2"'


def test_a_command_keeps_its_result_in_the_given_folder(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(as_command(one))
    assert CliRunner().invoke(app, ["slow", "--results", str(tmp_path)]).exit_code == 0
    assert CliRunner().invoke(app, ["slow", "--results", str(tmp_path), "--no-keep"]).exit_code == 0
    assert len(read_runs(tmp_path)) == 1


def test_a_kept_result_does_not_make_the_tree_dirty() -> None:
    before = environment()
    extra = Path(__file__).parents[2] / "bench" / "results" / "of-a-test.json"
    extra.parent.mkdir(exist_ok=True)
    extra.write_text("[]")
    try:
        assert environment() == before
    finally:
        extra.unlink()
