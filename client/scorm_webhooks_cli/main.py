"""Run a command, and print its errors in readable form."""

import contextlib
import errno
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from streams.core.errors import Conflict, Forbidden, Invalid, Misconfigured, NotFound, ScormWebhooksError, Stale
from streams.core.text import escape_controls

if TYPE_CHECKING:
    from typer import Typer

REFUSED = 1
WRONG_USE = 2
UNREACHABLE = 3
INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)


def run_program(load_commands: Callable[[Sequence[str]], "Typer"]) -> None:
    """Run the command of this process, which `load_commands` finds by its arguments. Ends the process.

    Exit codes: 0 done, 1 the answer is no, 2 wrong input or a wrong setting, 3 an outage, 130 Ctrl-C.
    """
    try:
        _escape_what_cannot_be_encoded()
        load_commands(sys.argv[1:])()
    except KeyboardInterrupt:
        _end(INTERRUPTED)
    except Invalid as error:
        _end(WRONG_USE, *map(str, error.errors))
    except Misconfigured as error:
        _end(WRONG_USE, str(error))
    except (NotFound, Forbidden, Conflict, Stale) as error:
        _end(REFUSED, str(error))
    except ScormWebhooksError as error:
        _end(UNREACHABLE, str(error))
    except OSError as error:
        if error.filename is None and error.errno not in _OUTPUT_ERRORS:
            raise  # A bug: its traceback says where.
        _end(UNREACHABLE, f"{error.filename or 'standard output'}: {error.strerror}")


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
