"""A line on the terminal that changes in place, below what a command prints."""

import sys
from contextlib import suppress

import typer

from scorm_webhooks_cli.text import is_quiet
from streams.core.text import escape_controls


class StatusLine:
    """Shows nothing if standard error is not a terminal."""

    def __init__(self) -> None:
        self._length = 0
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()

    def show(self, text: str) -> None:
        """Replace the line."""
        if not self._is_shown or is_quiet():
            return
        line = escape_controls(text)
        self._write(line.ljust(self._length))
        self._length = len(line)

    def clear(self) -> None:
        """Remove the line, so that the next one begins at the left."""
        if self._length:
            self._write(" " * self._length)
            self._length = 0

    def _write(self, line: str) -> None:
        # A closed terminal is not an error.
        with suppress(OSError):
            typer.echo(f"\r{line}\r", err=True, nl=False)
