"""Log lines: written whole, escaped for a terminal, and not repeated forever."""

import io
import logging
import math
import os
import re
import sys
from contextlib import suppress
from typing import Literal, TextIO, cast

from streams.core.text import escape_controls

# structlog imports rich for unused tracebacks: 4 MB of each process. None makes an import of it fail.
_hidden = sys.modules.setdefault("rich", None) is None  # type: ignore[arg-type]
import structlog  # noqa: E402

if _hidden:
    del sys.modules["rich"]

# A traceback keeps its line breaks.
MULTILINE_FIELDS = ("exception", "stack")
REPEATING_LOGGERS = ("aiokafka", "librdkafka", "opentelemetry")
REPETITION_WINDOW_SECONDS = 60.0
REPEATED_LINES = 3
MAX_LINE_KINDS = 1000
_NUMBERS = re.compile(r"\d+")


def configure_logging(style: Literal["console", "json"], level: str, stage: str) -> None:
    """Write log lines to standard error, other libraries' lines too. Every line has `stage`, `level` and a time."""
    renderers: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    if style == "console":
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        renderers += [escape_event, console]
    else:
        renderers.append(structlog.processors.JSONRenderer(default=str))

    def add_stage(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.setdefault("stage", stage)
        return event

    shared_processors: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_stage,
    ]
    lines = WholeLineWriter(sys.stderr)
    structlog.configure(
        processors=[*shared_processors, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, lines)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.addFilter(RepeatedLineFilter())
    foreign = [structlog.stdlib.add_logger_name, *shared_processors]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processors=[_strip, *renderers], foreign_pre_chain=foreign)
    )
    logging.basicConfig(
        handlers=[handler],
        level=max(logging.WARNING, logging.getLevelNamesMapping()[level.upper()]),
        force=True,
    )
    logging.captureWarnings(True)


class WholeLineWriter(io.TextIOBase):
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
    if name in MULTILINE_FIELDS:
        return escape_controls(value, allowed="\n\t")
    escaped_text = escape_controls(value)
    return escaped_text if name == "event" or escaped_text == value else _Quoted(value)


class RepeatedLineFilter(logging.Filter):
    """Rate-limits repeated log lines of some libraries to three a minute. The next line says how many it dropped.

    Lines that differ only in numbers count as repeated. In an outage the clients log twenty lines a second.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in REPEATING_LOGGERS or record.exc_info or record.stack_info:
            return True
        try:
            text = record.getMessage()
        except Exception:
            return True  # the handler reports the format error
        kind = (record.levelno, _NUMBERS.sub("", text))
        since, count = self.seen.get(kind, (-math.inf, 0))
        if not 0 <= record.created - since < REPETITION_WINDOW_SECONDS:
            if count > REPEATED_LINES:
                record.msg, record.args = f"{text} ({count - REPEATED_LINES} similar lines were dropped)", ()
            since, count = record.created, 0
        if len(self.seen) >= MAX_LINE_KINDS:
            self.seen.clear()
        self.seen[kind] = since, count + 1
        return count < REPEATED_LINES


def _strip(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return structlog.stdlib.ProcessorFormatter.remove_processors_meta(logger, method, event)
