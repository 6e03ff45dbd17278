"""Completion of commands in a shell."""

import os
from collections.abc import Collection
from typing import Annotated

import typer

from streams.core.errors import FieldError, Invalid

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "scorm-webhooks"
# A shell that asks for completions sets it, and the words that are typed so far.
COMPLETE_VARIABLE = "_SCORM_WEBHOOKS_COMPLETE"
_WORDS_VARIABLES = ("COMP_WORDS", "_TYPER_COMPLETE_ARGS")


def completion(
    shell: Annotated[str, typer.Argument(metavar="<bash|zsh|fish>", help="Your shell.")],
) -> None:
    """Print the script that completes commands in a shell.

    Example: `eval "$(scorm-webhooks completion bash)"`, in ~/.bashrc
    """
    if shell not in SHELLS:
        raise Invalid(FieldError("shell", f"must be one of: {', '.join(SHELLS)}"))
    # Typer prints it where a program begins: the script depends on the program's name alone.
    os.environ[COMPLETE_VARIABLE] = f"source_{shell}"
    try:
        program = typer.Typer(add_completion=True)
        program.command()(_do_nothing)
        program(prog_name=PROGRAM)
    finally:
        del os.environ[COMPLETE_VARIABLE]


def _do_nothing() -> None: ...


def is_asked() -> bool:
    """Whether a shell asks for completions."""
    return COMPLETE_VARIABLE in os.environ


def typed_words() -> Collection[str]:
    """The words of the command line that a shell completes; none in a command."""
    if not is_asked():
        return ()
    return {word for name in _WORDS_VARIABLES for word in os.environ.get(name, "").split()}
