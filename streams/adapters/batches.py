"""Batches work: callers that arrive while a batch is handled join the next one, so that load costs little more."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from streams.core.errors import Unavailable
from streams.core.queues.fair_queue import FairQueue
from streams.core.queues.request_class import RequestClass
from streams.request_owner import RequestOwner, work_for

Item = TypeVar("Item")
Result = TypeVar("Result")


class Batches(Generic[Item, Result]):
    """Handles items in batches of at most `max_size`, one after the other, which begin `interval_seconds` apart.

    A single item is handled at once, and many items cost little more. Owners of items take turns.

    `handle` returns a result for each item, in order; a result that is an exception is raised only for its caller. If
    `handle` raises `Unavailable`, it is raised for all; otherwise each item is handled alone, so that one bad item does
    not fail the others. A batch takes the turn of its `request_class`, not a caller's.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Item]], Awaitable[Sequence[Result | Exception]]],
        max_size: int,
        interval_seconds: float = 0.0,
        request_class: RequestClass | None = None,
    ) -> None:
        self._handle = handle
        self._max_size = max_size
        self._interval_seconds = interval_seconds
        self._owner = RequestOwner(request_class, "") if request_class else None
        self._next_at = 0.0
        self._queue: FairQueue[tuple[Item, asyncio.Future[Result]]] = FairQueue()
        self._task: asyncio.Task[None] | None = None

    async def submit(self, item: Item, owner: str = "") -> Result:
        """Return the result of an item. A caller that is cancelled does not cancel the batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(owner, (item, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return await future

    async def _run(self) -> None:
        try:
            while self._queue:
                if (pause_seconds := self._next_at - time.monotonic()) > 0:
                    await asyncio.sleep(pause_seconds)
                self._next_at = time.monotonic() + self._interval_seconds
                batch = self._queue.take(self._max_size, 1, lambda _: 1)
                with work_for(self._owner):
                    await self._handle_batch([entry for entry in batch if not entry[1].done()])
        finally:
            self._task = None

    async def _handle_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        results: Sequence[Result | Exception]
        try:
            results = await self._handle([item for item, _ in batch]) if batch else ()
        except Exception as error:
            if len(batch) > 1 and not isinstance(error, Unavailable):
                for entry in batch:
                    await self._handle_batch([entry])
                return
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
