"""`python -m streams` and `scorm-webhooks`: run a command."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scorm_webhooks_cli.main import run_program

if TYPE_CHECKING:
    from typer import Typer


def main() -> None:
    """Run a command, and end this process."""
    run_program(load_commands)


def load_commands(argv: Sequence[str]) -> "Typer":
    """The commands that `argv` names. Imported here, so that Ctrl-C during the import is quiet too."""
    from streams.cli import stage_commands

    if {*argv[:1]} & {command.name for command in stage_commands.stages.registered_commands}:
        return stage_commands.app
    from scorm_webhooks_cli.completion import typed_words
    from streams.cli.commands import create_app

    # All words: options of the program may come first.
    return create_app([*argv, *typed_words()])


if __name__ == "__main__":
    main()
