"""The program without the server: commands that are clients of the API, for an integrator's machine."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scorm_webhooks_cli.main import run_program

if TYPE_CHECKING:
    from typer import Typer

PROGRAM_HELP = """
The command line of scorm-webhooks: signed webhooks for SCORM events.

Sign in: `scorm-webhooks login URL`, or set SCORM_WEBHOOKS_API_URL and SCORM_WEBHOOKS_API_KEY. Then see events on this
machine: `scorm-webhooks listen --forward-to http://localhost:3000/hook`.

`verify`, `doctor` and `exam` need no API.
"""


def main() -> None:
    """Run a command, and end this process."""
    run_program(load_commands)


def load_commands(argv: Sequence[str]) -> "Typer":
    """The commands that `argv` names. Imported here, so that Ctrl-C during the import is quiet too."""
    from scorm_webhooks_cli.completion import typed_words
    from scorm_webhooks_cli.root import CLIENT_GROUPS, configure, create_program, with_whole_paragraphs

    return with_whole_paragraphs(create_program([*argv, *typed_words()], CLIENT_GROUPS, configure, PROGRAM_HELP))


if __name__ == "__main__":
    main()
