"""`python -m streams` and `scorm-webhooks`: run a command and print its errors in readable form."""

import contextlib
import errno
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from streams.core.errors import Conflict, Forbidden, Invalid, Misconfigured, NotFound, ScormWebhooksError, Unavailable
from streams.core.text import escape_controls

if TYPE_CHECKING:
    from typer import Typer

NOT_DONE = 1
MISCONFIGURED = 2
FAILED = 3
INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)


def main() -> None:
    """Run a command.

    Exit codes: 0 done, 1 bad input or an outage, 2 a setting must be changed, 3 the process cannot go on, 130 Ctrl-C.
    """
    try:
        _escape_what_cannot_be_encoded()
        load_commands(sys.argv[1:2])()
    except KeyboardInterrupt:
        _end(INTERRUPTED)
    except Invalid as error:
        _end(NOT_DONE, *map(str, error.errors))
    except (NotFound, Forbidden, Conflict, Unavailable) as error:
        _end(NOT_DONE, str(error))
    except Misconfigured as error:
        _end(MISCONFIGURED, str(error))
    except ScormWebhooksError as error:
        _end(FAILED, str(error))
    except OSError as error:
        if error.filename is None and error.errno not in _OUTPUT_ERRORS:
            raise  # A bug: its traceback says where.
        _end(FAILED, f"{error.filename or 'standard output'}: {error.strerror}")


def load_commands(argv: Sequence[str]) -> "Typer":
    """The commands that `argv` names. Imported here, so that Ctrl-C during the import is quiet too."""
    from streams.cli import stage_commands

    if {*argv} & {command.name for command in stage_commands.stages.registered_commands}:
        return stage_commands.app
    from streams.cli.commands import create_app

    return create_app(argv)


def _end(code: int, *errors: str) -> NoReturn:
    with contextlib.suppress(OSError):
        for error in errors:
            print(f"error: {escape_controls(error)}", file=sys.stderr, flush=True)
    _forget_unwritten()
    sys.exit(code)


def _forget_unwritten() -> None:
    """Do not flush a full or closed output again at exit: it would end in a traceback."""
    for stream, descriptor in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            if stream:
                stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


def _escape_what_cannot_be_encoded() -> None:
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
