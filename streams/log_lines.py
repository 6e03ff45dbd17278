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


class _Quoted:
    """A value that structlog's console shows by its repr, quoted and escaped once."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return repr(self._value)


def escape_event(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Text of a stranger steers no terminal; JSON escapes it by itself."""
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: object) -> object:
    # What is no text is written by its repr, which escapes.
    if not isinstance(value, str):
        return value
    if name in MANY_LINES:
        return escape_controls(value, keep="\n\t")
    escaped = escape_controls(value)
    return escaped if name == "event" or escaped == value else _Quoted(value)
