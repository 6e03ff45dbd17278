"""The figures of the scenarios, one line each."""

from collections.abc import Iterable

from chaos.scenario import Row

COLUMNS = ("events", "deliveries", "kills", "lost", "doubled", "allowed", "recovery s")


def table(rows: Iterable[Row]) -> str:
    head = f"{'scenario':<20}" + "".join(f"{name:>12}" for name in COLUMNS)
    return "\n".join([head, *map(line, rows)])


def line(row: Row) -> str:
    counts = (row.events, row.deliveries, row.kills, row.lost, row.doubled, row.allowed)
    return f"{row.scenario:<20}" + "".join(f"{count:>12}" for count in counts) + f"{row.recovery_seconds:>12.1f}"
