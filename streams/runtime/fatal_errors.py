"""Log the error that ends a process, so that the last line of a JSON log is also JSON."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from streams.core.errors import Misconfigured, ScormWebhooksError
from streams.log_lines import configure_logging

CRASHED_EXIT_CODE = 1
MISCONFIGURED_EXIT_CODE = 2
FAILED_EXIT_CODE = 3
CLOSE_TIMEOUT_SECONDS = 20.0


@contextmanager
def log_fatal_errors(stage: str, log_format: str) -> Iterator[None]:
    """Log the error that ends the block at level critical, and exit with its code.

    With `log_format` console the error is raised again: the command line prints it for a person.
    """
    previous_hook = threading.excepthook
    threading.excepthook = _log_thread_error
    try:
        yield
    except Exception as error:
        if log_format == "console":
            raise
        configure_logging("json", "info", stage)
        sys.exit(_log_error(error))
    finally:
        threading.excepthook = previous_hook


def end_soon() -> None:
    """End this process within `CLOSE_TIMEOUT_SECONDS`, even if a client that has failed hangs when it is closed."""
    timer = threading.Timer(CLOSE_TIMEOUT_SECONDS, os._exit, (FAILED_EXIT_CODE,))
    timer.daemon = True
    timer.start()


def _log_error(error: Exception) -> int:
    """Log the error. Returns the exit code of the process."""
    logger = structlog.get_logger()
    if isinstance(error, Misconfigured):
        logger.critical("misconfigured", why=str(error))
        return MISCONFIGURED_EXIT_CODE
    if isinstance(error, ScormWebhooksError):
        logger.critical("process_failed", why=str(error))
        return FAILED_EXIT_CODE
    if isinstance(error, OSError) and error.filename is not None:
        logger.critical("process_failed", why=f"{error.filename}: {error.strerror}")
        return FAILED_EXIT_CODE
    logger.critical("process_crashed", why=f"{type(error).__name__}: {error}", exc_info=error)
    return CRASHED_EXIT_CODE


def _log_thread_error(hook_args: threading.ExceptHookArgs) -> None:
    if hook_args.exc_value is not None:
        name = hook_args.thread.name if hook_args.thread else None
        structlog.get_logger().error("thread_crashed", thread=name, exc_info=hook_args.exc_value)
