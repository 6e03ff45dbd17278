"""How log lines reach a terminal or a collector: whole, and steered by nobody."""

import io
import os
from contextlib import suppress
from typing import TextIO

import structlog

from streams.core.text import escape_controls

# A traceback's lines stay lines.
MANY_LINES = ("exception", "stack")


class WholeLines(io.TextIOBase):
    """Writes each log line by one call of the system: lines of several processes on one stream never mix.

    A stream that takes no more (closed, full) costs log lines, and never the process.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError):  # a stream in memory
            self._descriptor = None

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text)
            else:
                os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)


def escape_event(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Text of a stranger steers no terminal; JSON escapes it by itself."""
    # What is no text is written by its repr, which escapes.
    return {
        name: escape_controls(value, "\n\t" if name in MANY_LINES else "") if isinstance(value, str) else value
        for name, value in event.items()
    }
