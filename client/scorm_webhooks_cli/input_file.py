"""Read the file, or the standard input, that a command names."""

import sys
from pathlib import Path

from streams.core.errors import FieldError, Invalid


def input_name(file: str) -> str:
    """The name of a file in messages; `-` is standard input."""
    return "standard input" if file == "-" else file


def read_input(file: str, max_bytes: int | None = None) -> bytes:
    """The content of a file, or of standard input for `-`. Raises `Invalid` if it cannot be read, or is larger."""
    if file == "-" and sys.stdin is None:
        raise Invalid(FieldError(input_name(file), "is closed"))
    size = -1 if max_bytes is None else max_bytes + 1
    try:
        if file == "-":
            content = sys.stdin.buffer.read(size)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(size)
    except OSError as error:
        raise Invalid(FieldError(input_name(file), error.strerror or str(error))) from None
    if max_bytes is not None and len(content) > max_bytes:
        raise Invalid(FieldError(input_name(file), f"must have at most {max_bytes} bytes"))
    return content


def read_text(file: str, max_bytes: int | None = None) -> str:
    """The same as text in UTF-8."""
    try:
        return read_input(file, max_bytes).decode()
    except UnicodeDecodeError as error:
        raise Invalid(FieldError(input_name(file), str(error))) from None
