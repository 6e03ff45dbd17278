"""Makes a value invalid if pure code fails at it, so that the process goes on with all others."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from streams.core.errors import InvalidRecord, ScormWebhooksError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# After this many failures in a row a record is invalid: if the process exited, it would stop all other records.
FAILURES_BEFORE_INVALID = 3


def invalid_on_failure(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make pure work on one record raise `InvalidRecord` when it fails unexpectedly every time.

    This system's exceptions, and the machine's (OSError, MemoryError), pass through: they say nothing about the record.
    Never use it for I/O or for state that records share: their failures end the process. The arguments are read again
    at each try, so no argument may be an iterator.
    """

    @wraps(work)
    def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        for attempt in range(1, FAILURES_BEFORE_INVALID + 1):
            try:
                return work(*args, **kwargs)
            except (ScormWebhooksError, OSError, MemoryError):
                raise
            except Exception as error:
                if attempt == FAILURES_BEFORE_INVALID:
                    raise InvalidRecord(f"it cannot be handled ({type(error).__name__}: {error})") from error
        raise AssertionError("unreachable")

    return wrapper
