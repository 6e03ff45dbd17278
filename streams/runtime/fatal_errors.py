"""Log the error that ends a process, so that the last line of a JSON log is JSON, too."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from streams.core.errors import Misconfigured, ScormWebhooksError
from streams.log_lines import configure_logging

EXIT_CRASHED = 1
EXIT_MISCONFIGURED = 2
EXIT_FAILED = 3
CLOSE_SECONDS = 20.0


@contextmanager
def fatal_errors_logged(stage: str, log_format: str) -> Iterator[None]:
    """Log the error that ends the block at level critical, and exit with its code.

    With `log_format` console the error passes on: the command line prints it for a person.
    """
    previous_hook = threading.excepthook
    threading.excepthook = _log_thread
    try:
        yield
    except Exception as error:
        if log_format == "console":
            raise
        configure_logging("json", "info", stage)
        sys.exit(_log(error))
    finally:
        threading.excepthook = previous_hook


def end_soon() -> None:
    """End this process within `CLOSE_SECONDS`, even if a client that has failed hangs when it is closed."""
    timer = threading.Timer(CLOSE_SECONDS, os._exit, (EXIT_FAILED,))
    timer.daemon = True
    timer.start()


def _log(error: Exception) -> int:
    """Log the error. Returns the exit code of the process."""
    logger = structlog.get_logger()
    if isinstance(error, Misconfigured):
        logger.critical("misconfigured", why=str(error))
        return EXIT_MISCONFIGURED
    if isinstance(error, ScormWebhooksError):
        logger.critical("process_failed", why=str(error))
        return EXIT_FAILED
    if isinstance(error, OSError) and error.filename is not None:
        logger.critical("process_failed", why=f"{error.filename}: {error.strerror}")
        return EXIT_FAILED
    logger.critical("process_crashed", why=f"{type(error).__name__}: {error}", exc_info=error)
    return EXIT_CRASHED


def _log_thread(hook_args: threading.ExceptHookArgs) -> None:
    if hook_args.exc_value is not None:
        name = hook_args.thread.name if hook_args.thread else None
        structlog.get_logger().error("thread_crashed", thread=name, exc_info=hook_args.exc_value)
