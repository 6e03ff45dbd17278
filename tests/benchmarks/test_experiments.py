"""Short runs of the experiments: they end, and their figures are complete."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import parts
from bench.day import Via, day, idle
from bench.kills import kills, repeats
from bench.rebalances import rebalances
from bench.results import Experiment, Run, read_runs, run_experiment
from bench.retention import retention
from bench.scale import scale
from bench.stack import WHOLE
from bench.whole import throughput
from conftest import left_out

pytestmark = [pytest.mark.real, pytest.mark.e2e]

PARTS = {*WHOLE, "kafka", "postgres", "sink", "generator"}


@pytest.fixture(autouse=True)
def _servers() -> None:
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
    if not parts.postgres():
        left_out("PostgreSQL")
    if not shutil.which("cc"):
        pytest.skip("the sink of the experiments needs a C compiler")


def kept(experiment: Experiment, folder: Path, **arguments: Any) -> list[Run]:
    """Run an experiment and return the runs that it keeps."""
    run_experiment(experiment, {"warm": 100, **arguments}, folder)
    runs = read_runs(folder)
    for run in runs:
        assert run["settings"]["postgresql"].items() >= {"fsync": "on", "full_page_writes": "on"}.items()
        assert run["settings"]["kafka"]["version"]
        assert not any("KEY" in name for name in run["settings"]["stages"])
    return runs


def test_throughput_under_a_sustained_load(tmp_path: Path) -> None:
    (run,) = kept(throughput, tmp_path, webhooks=3, undelivered=50, seconds=2)
    figures = run["figures"]
    assert run["command"] == 'make bench ARGS="throughput --webhooks 3 --undelivered 50 --seconds 2 --warm 100"'
    assert figures["cpu_us_a_delivery"].keys() == PARTS
    assert 0 < figures["per_second"] <= figures["published"] / 2
    assert figures["published"] > 50


def test_throughput_of_a_backlog(tmp_path: Path) -> None:
    (run,) = kept(throughput, tmp_path, webhooks=3, deliveries=200)
    assert run["figures"]["published"] == 200
    assert run["figures"]["per_second"] >= run["figures"]["recorded_per_second"] > 0


def test_a_day_has_figures_for_kafka_and_rest(tmp_path: Path) -> None:
    runs = kept(day, tmp_path, webhooks=3, rate=[20.0], seconds=1, settle=0.5)
    assert [run["parameters"]["via"] for run in runs] == [via.value for via in Via]
    for run in runs:
        figures = run["figures"]
        assert figures["cpu_ms_per_event"].keys() == PARTS | {"api"}
        assert figures["events"] > 10
        assert figures["failed"] == 0
        assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
        assert figures["wakeups_per_event"]["fan-out"] > 1
        assert figures["broker_requests_per_event"]["Fetch"] > 1
        assert figures["broker_requests_per_event"]["Produce"] > 1
    assert runs[1]["figures"]["events_a_request"] == 1
    assert runs[1]["settings"]["stages"]["SCORM_WEBHOOKS_RATE_LIMIT"] == "1000000"


def test_a_system_at_rest_has_a_cost(tmp_path: Path) -> None:
    (run,) = kept(idle, tmp_path, webhooks=3, seconds=1, rest=0)
    figures = run["figures"]
    assert figures["percent_of_a_core_by_part"].keys() == PARTS | {"api", "meter", "notify"}
    assert figures["kafka_alone"]["percent_of_a_core_by_part"].keys() == {"kafka", "postgres", "sink", "generator"}
    alone = figures["kafka_alone"]["broker_requests_per_second"]
    assert figures["broker_requests_per_second"]["Fetch"] > alone["Fetch"] == 0


def test_a_prediction_is_beside_what_was_measured(tmp_path: Path) -> None:
    (run,) = kept(scale, tmp_path, processes=[2], response_ms=[400], seconds=1, calibration=300)
    assert run["parameters"].items() >= {"processes": 2, "response_ms": 400}.items()
    figures = run["figures"]
    assert figures["limit"] in {"slots", "cores"}
    ratio = figures["per_second"] / figures["predicted_per_second"]  # of rounded numbers
    assert figures["measured_over_predicted"] == pytest.approx(ratio, rel=0.02, abs=0.01)


def test_old_rows_are_deleted_while_others_are_stored(tmp_path: Path) -> None:
    (run,) = kept(retention, tmp_path, rows=3000, rate=50.0, seconds=2)
    figures = run["figures"]
    assert min(figures[name] for name in ("deleted_per_second", "deleted_per_second_alone", "stored_per_second")) > 0
    assert 0 < figures["p50_ms_meanwhile"] <= figures["p99_ms_meanwhile"]
    assert figures["megabytes"].keys() == {"filled", "vacuumed", "filled_again"}


def test_kills_count_each_repeated_event(tmp_path: Path) -> None:
    (run,) = kept(kills, tmp_path, count=1, rate=50.0, every=2.0)
    figures = run["figures"]
    assert figures["lost"] == 0
    assert figures["in_flight"] == 10
    assert len(figures["repeated"]) == 1


def test_each_protocol_has_the_cost_of_a_rebalance(tmp_path: Path) -> None:
    runs = kept(rebalances, tmp_path, count=1, rate=50.0, every=3.0)
    assert [run["figures"]["protocol"] for run in runs] == ["consumer", "classic"]
    for run in runs:
        assert all(run["figures"][change]["longest_s"] for change in ("join", "leave"))


def test_a_repeat_belongs_to_the_kill_before_it() -> None:
    receipts = [("/ok", event_id, at, True) for event_id, at in [("a", 1), ("b", 2), ("b", 4), ("a", 5), ("a", 9)]]
    assert repeats(receipts, [3, 6]) == [2, 1]
