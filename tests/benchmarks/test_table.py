"""Tables of runs: medians and ranges of comparable runs."""

from typing import Any

from bench.results import Run
from bench.table import cell, flat, tables


def run(**fields: Any) -> Run:
    """A run of `throughput` on some machine."""
    machine = {"cpu": "Quick", "cores": 2, "memory_gb": 7.7, "kernel": "6.1", "filesystem": "ext4"}
    made: Any = {
        "experiment": "throughput",
        "command": 'make bench ARGS="throughput"',
        "parameters": {"webhooks": 100},
        "figures": {"per_second": 5000},
        "settings": {"postgresql": {"version": "17.2", "fsync": "on"}, "kafka": {"version": "4.1.0", "java": 17}},
        "environment": {"machine": machine, "python": "3.11.2", "commit": "a" * 40, "dirty": False},
        "date": "2026-11-27T10:00:00+00:00",
        **fields,
    }
    found: Run = made
    return found


def lines(*runs: Run) -> list[str]:
    """The rows of all tables, without their heads."""
    rows = [line for line in tables(runs).splitlines() if line.startswith("|")]
    return [row for row in rows if not row.startswith(("| command", "| ---"))]


def of_commit(commit: str, dirty: bool = False) -> Run:
    made = run()
    return {**made, "environment": {**made["environment"], "commit": commit, "dirty": dirty}}


def test_a_cell_is_the_median_range_and_count() -> None:
    assert cell([5000, 4000, 5500]) == "5 000 (4 000–5 500, n=3)"
    assert cell([12.5, 13.0]) == "12.75 (12.5–13, n=2)"


def test_a_cell_of_one_run_has_no_range() -> None:
    assert cell([0.44719]) == "0.4472 (n=1)"


def test_a_cell_without_values_is_a_dash() -> None:
    assert cell([]) == "–"


def test_a_cell_of_other_values_has_each_value_once() -> None:
    assert cell([True, True]) == "true"
    assert cell([True, False]) == "true, false"


def test_a_figure_with_parts_has_a_column_for_each() -> None:
    figures = {"cpu_us": {"kafka": 43, "deliver": 111}, "p50_ms": 5, "p99_ms_by_run": [1, 2]}
    assert flat(figures, ["p50_ms", "cpu_us", "doubled"]) == {"p50_ms": 5, "cpu_us kafka": 43, "cpu_us deliver": 111}


def test_runs_of_the_same_parameters_share_a_line() -> None:
    assert lines(run(), run(figures={"per_second": 4000})) == [
        '| `make bench ARGS="throughput"` | aaaaaaaaaa | 4 500 (4 000–5 000, n=2) |'
    ]


def test_runs_on_an_unsteady_machine_are_counted() -> None:
    fast, slow = {"python_ms": 10.0, "calls_ms": 5.0}, {"python_ms": 20.0, "calls_ms": 5.0}
    (line,) = lines(run(), run(speed=(fast, fast)), run(speed=(fast, slow)))
    assert line.startswith('| `make bench ARGS="throughput"`, *1 of 3 unsteady* |')


def test_runs_with_other_parameters_have_their_own_line() -> None:
    assert len(lines(run(), run(parameters={"webhooks": 1}))) == 2


def test_runs_with_other_settings_have_their_own_line() -> None:
    assert len(lines(run(), run(settings={"stages": {"SCORM_WEBHOOKS_SLOTS": "64"}}))) == 2


def test_runs_of_another_commit_have_their_own_line() -> None:
    found = lines(of_commit("a" * 40), of_commit("b" * 40), of_commit("b" * 40, dirty=True))
    assert [row.split(" | ")[1] for row in found] == ["aaaaaaaaaa", "bbbbbbbbbb", "bbbbbbbbbb and changes"]


def test_a_missing_figure_is_a_dash() -> None:
    found = lines(run(), run(parameters={"webhooks": 1}, figures={"per_second": 1, "doubled": 0}))
    assert [row.split(" | ")[-1] for row in found] == ["– |", "0 (n=1) |"]


def test_each_experiment_has_a_table() -> None:
    made = tables([run(), run(experiment="latency", figures={"p50_ms": 5.1})])
    assert made.index("### throughput") < made.index("### latency")
    assert made.count("| command | commit |") == 2


def test_an_experiment_without_columns_shows_all_figures() -> None:
    assert "| something |" in tables([run(experiment="new", figures={"something": 1})])


def test_each_machine_and_its_servers_have_a_section() -> None:
    other = run(settings={"kafka": {"version": "4.1.0", "java": 17}})
    heads = [line for line in tables([run(), other]).splitlines() if line.startswith("## ")]
    machine = "## 2 × Quick, 7.7 GB, Linux 6.1, ext4; Python 3.11.2"
    assert heads == [
        f"{machine}; PostgreSQL 17.2 (fsync on); Kafka 4.1.0 on Java 17",
        f"{machine}; Kafka 4.1.0 on Java 17",
    ]
