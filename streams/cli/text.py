"""Text for people on a terminal."""

from collections.abc import Mapping
from typing import Any

import typer

from streams.core.text import escape_controls


def say(text: str, *, err: bool = False) -> None:
    """Print one line for people."""
    typer.echo(escape_controls(text), err=err)


def text_of(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(text_of, value))
    if isinstance(value, Mapping):
        return "  ".join(f"{name}: {text_of(item)}" for name, item in value.items())
    # Escaped here, so that columns have the width of the shown text.
    return escape_controls(str(value))
