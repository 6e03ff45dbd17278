"""Start requests in turns, so that one client with many requests at once does not block others."""

import asyncio

from starlette.types import Scope

from streams.core.queues.fair_queue import FairQueue

# About 4 ms of work, before the event loop looks for other clients.
STARTS_PER_LOOP = 8
# While many wait, about 1 ms: work in progress, such as a page with many queries, continues sooner. The rate is a third
# lower then, because each iteration has a cost.
MANY_WAITING = 64
STARTS_WHILE_MANY_WAIT = 2
_CREDENTIALS = (b"authorization", b"cookie")


class StartTurns:
    """Only a few requests start in one iteration of the event loop; beyond `STARTS_PER_LOOP` clients take turns.

    A client is identified by its key, its cookie or its commit URL, none of which is verified yet. A client that sends
    many of these gets more turns; that is no worse than without turns.
    """

    def __init__(self) -> None:
        self._started = 0
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        self._waiting_count = 0

    async def wait_for_turn(self, scope: Scope) -> None:
        """Return when a request may start: at once while few requests come."""
        loop = asyncio.get_running_loop()
        if self._started == 0:
            loop.call_soon(self._begin_iteration)
        if self._started < STARTS_PER_LOOP and not self._waiting:
            self._started += 1
            return
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.put(client_of(scope), turn)
        self._waiting_count += 1
        await turn

    def _begin_iteration(self) -> None:
        self._started = 0
        starts = STARTS_PER_LOOP if self._waiting_count < MANY_WAITING else STARTS_WHILE_MANY_WAIT
        turns = self._waiting.take(starts, 1, lambda _: 1)
        self._waiting_count -= len(turns)
        for turn in turns:
            if not turn.done():
                turn.set_result(None)
                self._started += 1
        if self._started or self._waiting:
            asyncio.get_running_loop().call_soon(self._begin_iteration)


def client_of(scope: Scope) -> str:
    """The text that distinguishes a client from others before it is authenticated."""
    for name, value in scope["headers"]:
        if name in _CREDENTIALS:
            return str(value, "latin-1")
    path: str = scope["path"]
    return path if path.startswith("/runtime/") else str((scope.get("client") or ("",))[0])
