"""`python -m streams` and `scorm-webhooks`: run a command, tell its errors to a person."""

import contextlib
import errno
import os
import sys
from typing import NoReturn

from streams.core.errors import Invalid, Misconfigured, NotFound, ScormWebhooksError, Unavailable
from streams.core.text import escape_controls

NOT_DONE = 1
MISCONFIGURED = 2
FAILED = 3
INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
_OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EPIPE, errno.EIO)


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 bad input or something does not answer, 2 something must be set,
    3 the process could not go on, 130 Ctrl-C.
    """
    try:
        _escape_what_cannot_be_encoded()
        from streams.cli.app import app  # here, so that Ctrl-C while it is imported is quiet too

        app()
    except KeyboardInterrupt:
        _end(INTERRUPTED)
    except Invalid as wrong:
        _end(NOT_DONE, *map(str, wrong.errors))
    except (NotFound, Unavailable) as failed:
        _end(NOT_DONE, str(failed))
    except Misconfigured as wrong:
        _end(MISCONFIGURED, str(wrong))
    except ScormWebhooksError as failed:
        _end(FAILED, str(failed))
    except OSError as failed:
        if failed.filename is None and failed.errno not in _OUTPUT_ERRORS:
            raise  # a bug: its traceback says where
        _end(FAILED, f"{failed.filename or 'standard output'}: {failed.strerror}")


def _end(code: int, *errors: str) -> NoReturn:
    with contextlib.suppress(OSError):
        for error in errors:
            print(f"error: {escape_controls(error)}", file=sys.stderr, flush=True)
    _forget_unwritten()
    sys.exit(code)


def _forget_unwritten() -> None:
    """What a full or closed output did not take is not tried again at exit, where it would end in a traceback."""
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
