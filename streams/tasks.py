"""Tasks that live and end together, or with the process."""

import asyncio
import signal
from collections.abc import Awaitable, Callable


async def run_until_first_ends(*parts: Callable[[], Awaitable[object]]) -> None:
    """Run all parts until one ends or fails. Then cancel the others, and raise its failure.

    `asyncio.TaskGroup` waits for the others when one ends, and wraps a failure in an `ExceptionGroup`.
    """
    tasks = [asyncio.ensure_future(part()) for part in parts]
    try:
        finished_tasks, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in finished_tasks:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def stop_signal() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    return stopping
