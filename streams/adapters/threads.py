"""Run blocking calls on threads. Both functions raise `NoThread` while this machine starts no thread."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

from streams.core.errors import Unavailable
from streams.outage import OutageKind

Result = TypeVar("Result")


class NoThread(Unavailable):
    """This machine starts no thread at the moment."""


THREADS = OutageKind("threads_exhausted", "threads_available", NoThread)


async def run_in_daemon_thread(call: Callable[[], Result]) -> Result:
    """Run `call` on a new thread and return its result.

    A cancelled caller leaves the thread behind, and the process can end while it runs. With `asyncio.to_thread` the end
    of the loop would wait for it.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop is closed: no caller waits
            loop.call_soon_threadsafe(settle, result, error)

    thread = threading.Thread(target=run, name="blocking-call", daemon=True)
    with _thread_shortage():
        thread.start()
    return await future


async def run_in_worker_thread(call: Callable[[], Result]) -> Result:
    """Run `call` on a thread of the loop's pool and return its result.

    This costs less than a new thread, but the end of the loop waits for the call.
    """
    with _thread_shortage():
        # Separate from the await, so that a RuntimeError of `call` itself passes unchanged.
        future = asyncio.get_running_loop().run_in_executor(None, call)
    return await future


@contextmanager
def _thread_shortage() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise NoThread(f"this machine starts no thread at the moment: {error}") from error
