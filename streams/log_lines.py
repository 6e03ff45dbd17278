"""Write log lines whole, and escape text that could control a terminal."""

import io
import os
from contextlib import suppress
from typing import TextIO

import structlog

from streams.core.text import escape_controls

# A traceback keeps its line breaks.
MANY_LINES = ("exception", "stack")


class WholeLines(io.TextIOBase):
    """Writes each log line by one system call, so that lines of several processes on one stream never mix.

    When the stream is closed or full, lines are lost. The process goes on.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._descriptor: int | None = stream.fileno()
        except (OSError, ValueError):  # a stream in memory has no descriptor
            self._descriptor = None

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text)
            else:
                os.write(self._descriptor, text.encode(errors="backslashreplace"))
        return len(text)


class _Quoted:
    """A value for structlog's console, which shows its repr: quoted and escaped once."""

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return repr(self._value)


def escape_event(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape control characters in the values of a log line for a console. JSON escapes them itself."""
    return {name: _safe(name, value) for name, value in event.items()}


def _safe(name: str, value: object) -> object:
    # The console writes any other value by its repr, which escapes.
    if not isinstance(value, str):
        return value
    if name in MANY_LINES:
        return escape_controls(value, keep="\n\t")
    escaped = escape_controls(value)
    return escaped if name == "event" or escaped == value else _Quoted(value)
