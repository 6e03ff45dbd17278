"""Tables of kept runs: one line for each experiment, its parameters and the commit that ran."""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from bench.calibration import is_steady
from bench.results import Run

# The figures in tables, in this order; a figure with parts has a column for each part.
COLUMNS: dict[str, Sequence[str]] = {
    "throughput": ("per_second", "recorded_per_second", "cpu_ms_a_delivery", "cpu_us_a_delivery", "doubled"),
    "latency": ("p50_ms", "p99_ms", "cpu_share"),
    "day": (
        *("p50_ms", "p99_ms", "delivered_per_second", "failed", "cpu_ms_per_event_without_load", "cpu_ms_per_event"),
        *("wakeups_per_event", "broker_requests_per_event"),
    ),
    "idle": ("percent_of_a_core", "percent_of_a_core_by_part", "wakeups_per_second", "broker_requests_per_second"),
    "front-door": (
        *("rest_per_second", "producer_per_second", "ratio_median", "rest_answer_p50_ms", "rest_answer_p99_ms"),
        *("refused", "rest_cpu_us", "producer_cpu_us"),
    ),
    "producer": ("p50_ms", "p99_ms", "flood_per_second", "flood_cpu_us"),
    "alone": ("per_second", "per_cpu_second", "cpu_us"),
    "neighbours": ("p50_ms", "p99_ms", "max_ms", "healthy_events", "healthy_delivered"),
    "pairs": ("p99_ratio_median", "all_healthy_delivered"),
    "bursts": ("p50_ms", "p99_ms", "p99_ms_before", "p99_ms_fan_out", "p99_ms_deliver", "burst_delivered_per_second"),
    "held": ("drained_per_second", "doubled", "p99_ms_before", "p99_ms_meanwhile"),
    "pulled": ("requests_per_second", "pulled_per_second", "ratio_median"),
    "readers": (
        *("api_mb_before", "api_mb", "cpu_percent", "transactions_per_second_idle", "transactions_per_second"),
        *("p50_ms", "p99_ms"),
    ),
    "footprint": ("memory_mb_sum", "memory_mb"),
    "memory": ("memory_mb", "ready_seconds", "deliver_mb_with_waiting"),
    "scale": ("limit", "predicted_per_second", "per_second", "measured_over_predicted"),
    "listing": ("p50_ms", "p99_ms", "p99_ms_by_filter"),
    "first-delivery": ("answered_p50_ms", "arrived_p50_ms", "arrived_max_ms"),
    "http-sender": ("cpu_us_median", "wall_us_median"),
    "replay": ("replayed_per_second", "doubled", "p99_ms_before", "p99_ms_meanwhile"),
    "retention": (
        "deleted_per_second",
        "stored_per_second",
        "deleted_per_second_alone",
        "p99_ms_before",
        "p99_ms_meanwhile",
        "megabytes",
    ),
}


def tables(runs: Iterable[Run]) -> str:
    """Markdown: a section for each machine with its servers, in it a table for each experiment."""
    sections = []
    for circumstances, of_machine in _grouped(runs, _circumstances).items():
        sections.append(f"## {circumstances}")
        for experiment, of_experiment in _grouped(of_machine, lambda run: run["experiment"]).items():
            sections += [f"### {experiment}", _table(experiment, of_experiment)]
    sections.append("Each cell is the median of the runs: `median (min–max, n)`. *Unsteady*: its speed changed.")
    return "\n\n".join(sections)


def cell(values: Sequence[object]) -> str:
    """One figure of several runs: median and range of numbers, or each other value."""
    if not values:
        return "–"
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if len(numbers) < len(values):
        return ", ".join(dict.fromkeys(json.dumps(value) for value in values))
    median = _number(statistics.median(numbers))
    if len(numbers) == 1:
        return f"{median} (n=1)"
    return f"{median} ({_number(min(numbers))}–{_number(max(numbers))}, n={len(numbers)})"


def flat(figures: dict[str, Any], names: Sequence[str]) -> dict[str, object]:
    """The named figures that exist; each part of a figure has its own name."""
    found: dict[str, object] = {}
    for name in names:
        figure = figures.get(name)
        if isinstance(figure, dict):
            found |= {f"{name} {part}": value for part, value in figure.items()}
        elif figure is not None:
            found[name] = figure
    return found


def _table(experiment: str, runs: Sequence[Run]) -> str:
    lines = [
        (group, [flat(run["figures"], COLUMNS.get(experiment, tuple(run["figures"]))) for run in group])
        for group in _grouped(runs, _line_key).values()
    ]
    columns = list(dict.fromkeys(name for _, figures in lines for each in figures for name in each))
    rows = [["command", "commit", *columns]]
    for group, figures in lines:
        command = f"`{group[0]['command']}`{_unsteady(group)}"
        cells = (cell([each[name] for each in figures if name in each]) for name in columns)
        rows.append([command, _commit(group[0]), *cells])
    rows.insert(1, ["---"] * len(rows[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _grouped(runs: Iterable[Run], key: Callable[[Run], str]) -> dict[str, list[Run]]:
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups


def _line_key(run: Run) -> str:
    return json.dumps([run["parameters"], run["settings"], _commit(run)], sort_keys=True)


def _circumstances(run: Run) -> str:
    """The machine and servers of a run: figures of others are not comparable."""
    around, settings = run["environment"], run["settings"]
    machine = around["machine"]
    parts = [
        f"{machine['cores']} × {machine['cpu']}, {_number(machine['memory_gb'])} GB, Linux {machine['kernel']},"
        f" {machine['filesystem']}",
        f"Python {around['python']}",
    ]
    if "postgresql" in settings:
        own = dict(settings["postgresql"])
        parts.append(f"PostgreSQL {own.pop('version')} ({', '.join(f'{name} {value}' for name, value in own.items())})")
    if "kafka" in settings:
        parts.append(f"Kafka {settings['kafka']['version']} on Java {settings['kafka']['java']}")
    return "; ".join(parts)


def _commit(run: Run) -> str:
    around = run["environment"]
    return around["commit"][:10] + (" and changes" if around["dirty"] else "")


def _unsteady(runs: Sequence[Run]) -> str:
    """How many of these runs the machine disturbed."""
    count = sum("speed" in run and not is_steady(*run["speed"]) for run in runs)
    return f", *{count} of {len(runs)} unsteady*" if count else ""


def _number(value: float) -> str:
    """A number with four digits, or all digits of an integer, in groups of three."""
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.4g}"
