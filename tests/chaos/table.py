"""The table of scenarios."""

from collections.abc import Iterable

from chaos.scenario import Row

COLUMNS = ("events", "deliveries", "kills", "lost", "repeated", "allowed", "recovery s")


def table(rows: Iterable[Row]) -> str:
    head = f"{'scenario':<20}" + "".join(f"{name:>12}" for name in COLUMNS)
    return "\n".join([head, *map(line, rows)])


def line(row: Row) -> str:
    counts = (row.events, row.deliveries, row.kills, row.lost, row.repeated, row.allowed)
    return f"{row.scenario:<20}" + "".join(f"{count:>12}" for count in counts) + f"{row.recovery_seconds:>12.1f}"
