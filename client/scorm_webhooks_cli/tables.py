"""Tables that fit the terminal, with ids that stay whole, and lists with a line for each row."""

import io
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scorm_webhooks_cli.text import say, text_of

# Headings, each with the field of its cells or a function of the row.
Columns = Mapping[str, str | Callable[[Mapping[str, Any]], object]]

# When the output is not a terminal.
DEFAULT_WIDTH = 100
MIN_CELL_WIDTH = 12
_COLUMN_GAP = 2
# Ids are copied to other commands: these cells are never split.
_UNSPLIT_COLUMNS = frozenset({"id", "account", "event", "object", "prefix", "state", "at"})


def print_table(rows: Sequence[Mapping[str, Any]], columns: Columns | None) -> None:
    """Print a table; long texts wrap within their column."""
    if not rows:
        say("none")
        return
    headings = columns or {name: name for name in dict.fromkeys(name for row in rows for name in row)}
    cells = {heading: [text_of(_cell_value(row, column)) for row in rows] for heading, column in headings.items()}
    table = Table(box=None, pad_edge=False, padding=(0, _COLUMN_GAP, 0, 0), header_style="")
    min_table_width = 0
    for heading, texts in cells.items():
        width = max(len(heading), *map(len, texts))
        is_unsplit = heading in _UNSPLIT_COLUMNS
        min_width = width if is_unsplit else min(width, MIN_CELL_WIDTH)
        table.add_column(heading, no_wrap=is_unsplit, overflow="fold", min_width=min_width)
        min_table_width += min_width + _COLUMN_GAP
    for line in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, line))
    _print(table, max(shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns, min_table_width))


def print_lines(rows: Sequence[Mapping[str, Any]], columns: Columns, width: int | None) -> None:
    """Print a line for each row, cut to `width` if there is one. The last column should be the long one."""
    if not rows:
        say("none")
        return
    lines = [tuple(columns), *(tuple(text_of(_cell_value(row, column)) for column in columns.values()) for row in rows)]
    widths = [max(map(cell_len, cells)) for cells in zip(*lines, strict=True)]
    for line in lines:
        padded_cells = (
            cell + " " * (column_width - cell_len(cell)) for cell, column_width in zip(line, widths, strict=True)
        )
        text = Text((" " * _COLUMN_GAP).join(padded_cells).rstrip())
        if width is not None:
            text.truncate(width, overflow="ellipsis")
        typer.echo(text.plain)


def terminal_width() -> int | None:
    """The width of the terminal that this command writes to. None without one."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size((DEFAULT_WIDTH, 24)).columns if is_terminal else None


def _cell_value(row: Mapping[str, Any], column: str | Callable[[Mapping[str, Any]], object]) -> object:
    return column(row) if callable(column) else row.get(column, "")


def _print(table: Table, width: int) -> None:
    output = io.StringIO()
    Console(file=output, width=width, color_system=None, legacy_windows=False).print(table)
    for line in output.getvalue().split("\n")[:-1]:
        typer.echo(line.rstrip())
