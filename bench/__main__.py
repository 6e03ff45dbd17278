"""Experiments: each prints its figures and keeps them in bench/results. `all` runs those in docs/performance.md."""

from typing import Any

import typer

from bench.alone import Stage, alone, usage
from bench.apart import held, neighbours, pairs, rated
from bench.bursts import bursts
from bench.commands import Keep, Results, as_command
from bench.commits import commits
from bench.compare import compare
from bench.control import first_delivery, listing, replay
from bench.day import day, idle
from bench.erasures import erasures
from bench.filters import filters
from bench.floods import floods
from bench.footprint import footprint
from bench.front_door import front_door
from bench.hangs import hangs
from bench.http_sender import http_sender
from bench.kills import kills
from bench.memory import memory
from bench.pages import pages
from bench.producer import producer
from bench.pulls import pulled, readers
from bench.rebalances import rebalances
from bench.results import RESULTS, Experiment, read_runs, run_experiment
from bench.retention import retention
from bench.scale import scale
from bench.table import tables
from bench.whole import latency, throughput

EXPERIMENTS: tuple[Experiment, ...] = (
    throughput,
    latency,
    day,
    idle,
    front_door,
    producer,
    alone,
    neighbours,
    pairs,
    bursts,
    held,
    rated,
    pulled,
    readers,
    memory,
    erasures,
    footprint,
    scale,
    listing,
    pages,
    usage,
    commits,
    first_delivery,
    replay,
    retention,
    kills,
    rebalances,
    http_sender,
    filters,
    floods,
    hangs,
)
SET: tuple[tuple[Experiment, dict[str, Any]], ...] = (
    (throughput, {"webhooks": 1}),
    (throughput, {"webhooks": 100}),
    (throughput, {"webhooks": 100, "delivers": 2, "fan_outs": 2}),
    (throughput, {"webhooks": 100, "undelivered": 2000}),
    (day, {}),
    (idle, {}),
    (front_door, {}),
    (front_door, {"batch": 500, "undelivered": 20_000}),
    (producer, {}),
    (alone, {"stage": Stage.FAN_OUT}),
    (alone, {"stage": Stage.DELIVER}),
    (alone, {"stage": Stage.RECORD}),
    (pairs, {"count": 1}),
    (bursts, {"events": 10_000}),
    (bursts, {"events": 1000, "webhooks": 100}),
    (bursts, {"events": 10_000, "webhooks": 100}),
    (bursts, {"events": 10_000, "unmatched": 300}),
    (bursts, {"events": 5000, "accounts": 100}),
    (bursts, {"events": 27_500, "per_second": 1100}),
    (held, {}),
    (memory, {}),
    (erasures, {}),
    (footprint, {}),
    (scale, {}),
    (listing, {}),
    (pages, {}),
    (usage, {}),
    (commits, {}),
    (first_delivery, {}),
    (replay, {}),
    (retention, {}),
    (kills, {}),
    (rebalances, {}),
    (http_sender, {}),
    (filters, {}),
    (floods, {}),
    (hangs, {"accounts": 1}),
    (hangs, {"accounts": 10}),
)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for experiment in EXPERIMENTS:
    app.command()(as_command(experiment))
# Options after EXPERIMENT belong to it.
app.command(context_settings={"allow_interspersed_args": False})(compare)


@app.command(name="all")
def run_all(keep: Keep = True, results: Results = RESULTS) -> None:
    """Run all experiments; takes about an hour on an idle machine."""
    folder = results if keep else None
    print(tables([run for each, arguments in SET for run in run_experiment(each, arguments, folder)]))


@app.command()
def table(results: Results = RESULTS) -> None:
    """Markdown tables of the kept results: one line for each experiment, its parameters and the commit."""
    runs = read_runs(results)
    if not runs:
        raise SystemExit(f"{results} has no results: run an experiment first")
    print(tables(runs))


if __name__ == "__main__":
    app()
