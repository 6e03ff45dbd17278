"""Text for people on a terminal."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import typer

from streams.core.text import escape_controls

_is_quiet = False


def be_quiet() -> None:
    """Print no hints any more."""
    global _is_quiet
    _is_quiet = True


def is_quiet() -> bool:
    """Whether only results and errors are wanted."""
    return _is_quiet


def say(text: str, *, err: bool = False) -> None:
    """Print one line for people."""
    typer.echo(escape_controls(text), err=err)


def hint(text: str) -> None:
    """Print a hint on standard error. A closed terminal is not an error."""
    if not _is_quiet:
        with suppress(OSError):
            say(text, err=True)


def text_of(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(text_of, value))
    if isinstance(value, Mapping):
        return "  ".join(f"{name}: {text_of(item)}" for name, item in value.items())
    # Escaped here, so that columns have the width of the shown text.
    return escape_controls(str(value))
