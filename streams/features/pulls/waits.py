"""Readers that wait for deliveries: one query at a time for the whole process, and none while nobody waits."""

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass

POLL_SECONDS = 0.25
# A wait ends before its time by up to this part of it.
SPREAD = 0.2


@dataclass(eq=False, slots=True)
class _WaitingReader:
    """A reader, and the number of deliveries that it takes."""

    limit: int
    woken: asyncio.Future[bool]


class Waits:
    """The waiting readers of one process, by webhook: the first one gets the next deliveries.

    `available` counts the deliveries that could be pulled now, of each webhook up to the number beside its id.
    """

    def __init__(self, available: Callable[[Mapping[str, int]], Awaitable[Mapping[str, int]]]) -> None:
        self._available = available
        self._readers: dict[str, deque[_WaitingReader]] = {}
        # When a webhook's rate allows the next delivery, in the loop's time.
        self._allowed_at: dict[str, float] = {}
        self._poll_task: asyncio.Task[None] | None = None
        self._end = asyncio.Event()

    async def wait(self, webhook_id: str, seconds: float, limit: int, rate_seconds: float = 0.0) -> bool:
        """Wait until there may be a delivery of this webhook for this reader; False if there is none in time.

        `rate_seconds` is how long the webhook's rate allows none. False at once after `end`. Raises what the query
        raised.
        """
        if self._end.is_set():
            return False
        loop = asyncio.get_running_loop()
        if rate_seconds:
            self._allowed_at[webhook_id] = loop.time() + rate_seconds
        reader = _WaitingReader(limit, loop.create_future())
        self._readers.setdefault(webhook_id, deque()).append(reader)
        if self._poll_task is None:
            # The query is for all readers, so it does not belong to this request.
            self._poll_task = asyncio.create_task(self._poll(), context=Context())
        try:
            # Readers that begin together after a restart should not all return together. A single reader waits to the
            # end.
            is_alone = sum(map(len, self._readers.values())) == 1
            async with asyncio.timeout(seconds if is_alone else seconds * random.uniform(1 - SPREAD, 1)):
                return await reader.woken
        except TimeoutError:
            return False
        finally:
            self._forget(webhook_id, reader)

    def end(self) -> None:
        """End every wait when the process stops."""
        self._end.set()
        for readers in self._readers.values():
            for reader in readers:
                if not reader.woken.done():
                    reader.woken.set_result(False)

    def _forget(self, webhook_id: str, reader: _WaitingReader) -> None:
        readers = self._readers.get(webhook_id, deque())
        with suppress(ValueError):
            readers.remove(reader)
        if not readers:
            self._readers.pop(webhook_id, None)
            self._allowed_at.pop(webhook_id, None)

    async def _poll(self) -> None:
        try:
            while self._readers:
                await asyncio.sleep(POLL_SECONDS)
                limits = self._wanted()
                if not limits:
                    continue
                try:
                    counts = await self._available(limits)
                except Exception as error:
                    self._fail(error)
                    continue
                for webhook_id, count in counts.items():
                    self._wake(webhook_id, count)
        finally:
            self._poll_task = None

    def _wanted(self) -> Mapping[str, int]:
        """The number of wanted deliveries of each webhook whose rate allows some."""
        now = asyncio.get_running_loop().time()
        return {
            webhook_id: sum(reader.limit for reader in readers)
            for webhook_id, readers in self._readers.items()
            if self._allowed_at.get(webhook_id, 0.0) <= now
        }

    def _wake(self, webhook_id: str, count: int) -> None:
        """Wake as many readers as take this many together; only one if a rate allows a few at a time."""
        readers = self._readers.get(webhook_id, deque())
        count = min(count, 1) if webhook_id in self._allowed_at else count
        while count > 0 and readers:
            reader = readers.popleft()
            count -= reader.limit
            if not reader.woken.done():
                reader.woken.set_result(True)

    def _fail(self, error: Exception) -> None:
        for readers in self._readers.values():
            for reader in readers:
                if not reader.woken.done():
                    reader.woken.set_exception(error)
