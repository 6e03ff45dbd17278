"""The experiments: each prints a line of JSON a run; `all` runs the set of docs/performance.md and prints a table."""

from collections.abc import Callable
from functools import partial

import typer

from bench.alone import Stage, alone
from bench.apart import held, neighbours, pairs
from bench.control import first_delivery, listing, replay
from bench.memory import memory
from bench.producer import producer
from bench.whole import latency, throughput

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
for experiment in (
    throughput,
    latency,
    producer,
    alone,
    neighbours,
    pairs,
    held,
    memory,
    listing,
    first_delivery,
    replay,
):
    app.command()(experiment)

SET: tuple[Callable[[], dict[str, object]], ...] = (
    partial(throughput, 1),
    partial(throughput, 100),
    partial(throughput, 100, delivers=2, fan_outs=2),
    partial(latency, 50),
    producer,
    partial(alone, Stage.FAN_OUT),
    partial(alone, Stage.DELIVER),
    partial(alone, Stage.RECORD),
    partial(pairs, 1),
    held,
    memory,
    listing,
    first_delivery,
    replay,
)
# What a table has room for.
COLUMNS = {
    "throughput": ("webhooks", "delivers", "fan_outs", "per_second", "cpu_ms_a_delivery"),
    "latency": ("rate", "p50_ms", "p99_ms"),
    "producer": ("linger_ms", "p50_ms", "p99_ms", "flood_per_second"),
    "alone": ("stage", "per_second", "per_cpu_second", "cpu_us"),
    "pairs": ("p99_ratio_median", "all_healthy_delivered"),
    "held": ("deliveries", "drained_per_second", "doubled", "p99_ms_before", "p99_ms_meanwhile"),
    "listing": ("deliveries", "p50_ms", "p99_ms"),
    "first-delivery": ("answered_p50_ms", "arrived_p50_ms", "arrived_max_ms"),
    "replay": ("dead_letters", "replayed_per_second", "doubled", "p99_ms_before", "p99_ms_meanwhile"),
    "memory": ("ready_seconds", "memory_mb", "deliver_mb_with_waiting"),
}


@app.command(name="all")
def every() -> None:
    """All of them, about half an hour on an otherwise idle machine."""
    results = [run() for run in SET]
    for result in results:
        name = str(result["experiment"])
        print(f"{name:12}", "  ".join(f"{column} {result[column]}" for column in COLUMNS[name]))


if __name__ == "__main__":
    app()
