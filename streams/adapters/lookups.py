"""Look up host names by the system's resolver: accounts take turns, and concurrent look-ups of a name are shared."""

import asyncio
import math
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from cachetools import TTLCache

from streams.adapters.threads import run_in_daemon_thread
from streams.core.queues.fair_queue import FairQueue

# Returns every address of a host name. Raises OSError if it has none.
Lookup = Callable[[str], Awaitable[Sequence[str]]]

CACHE_SECONDS = 10
MAX_CACHED_NAMES = 10_000
# As many as slots. Each has a thread, which silent name servers block for ten seconds or more: longer than an attempt.
LOOKUPS_AT_ONCE = 256
# An account may have one for each four free ones: many accounts with silent name servers still leave some for others.
FREE_FOR_EACH = 4


class Lookups:
    """Looks up names. A look-up counts until its thread returns, even if its attempt has ended.

    Concurrent callers of a name share one look-up. `lookup` replaces the system's resolver; `monotonic` is the clock of
    the cache.
    """

    def __init__(
        self,
        lookup: Lookup | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        at_once: int = LOOKUPS_AT_ONCE,
    ) -> None:
        self._lookup = lookup or _ask_system
        self._monotonic = monotonic
        self._addresses: TTLCache[str, Sequence[str]] = TTLCache(MAX_CACHED_NAMES, CACHE_SECONDS, monotonic)
        self._tasks: dict[str, asyncio.Task[Sequence[str]]] = {}
        self._free = at_once
        self._in_use: Counter[str] = Counter()
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()
        # When a name last resolved, by the given clock.
        self.resolved_at = -math.inf

    async def find(self, host: str, account_id: str, on_start: Callable[[], None] = lambda: None) -> Sequence[str]:
        """The addresses of a host as they were at most ten seconds ago. Calls `on_start` when its turn comes.

        Raises OSError if it has none, and `NoThread`.
        """
        if (addresses := self._addresses.get(host)) is None:
            addresses = await self.ask(host, account_id, on_start)
            if not addresses:
                raise OSError("the name has no address")
            self._addresses[host] = addresses
        return addresses

    async def ask(self, host: str, account_id: str, on_start: Callable[[], None] = lambda: None) -> Sequence[str]:
        """The addresses of a host now, perhaps none. Raises the same errors as `find`."""
        if host not in self._tasks:
            await self._wait_for_turn(account_id)
            if host in self._tasks:
                # Another account asked for it during the wait.
                self._end_turn(account_id)
            else:
                task = self._tasks[host] = asyncio.create_task(self._lookup_now(host))
                task.add_done_callback(partial(self._end, host, account_id))
        on_start()
        return await asyncio.shield(self._tasks[host])

    def close(self) -> None:
        """Cancel all waiting callers."""
        for task in self._tasks.values():
            task.cancel()

    async def _lookup_now(self, host: str) -> Sequence[str]:
        addresses = await self._lookup(host)
        self.resolved_at = self._monotonic()
        return addresses

    def _end(self, host: str, account_id: str, task: asyncio.Task[Sequence[str]]) -> None:
        del self._tasks[host]
        self._end_turn(account_id)
        if not task.cancelled():
            # Read the exception: Python logs one that nobody reads.
            task.exception()

    async def _wait_for_turn(self, account_id: str) -> None:
        if self._may_start(account_id):
            self._begin_turn(account_id)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.put(account_id, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._end_turn(account_id)
            else:
                self._waiting.retain(lambda other: other is not turn)
            raise

    def _may_start(self, account_id: str) -> bool:
        return FREE_FOR_EACH * self._in_use[account_id] < self._free

    def _begin_turn(self, account_id: str) -> None:
        self._in_use[account_id] += 1
        self._free -= 1

    def _end_turn(self, account_id: str) -> None:
        self._in_use[account_id] -= 1
        if not self._in_use[account_id]:
            del self._in_use[account_id]
        self._free += 1
        while (found := self._waiting.take_one(self._may_start)) is not None:
            owner, turn = found
            if not turn.done():
                self._begin_turn(owner)
                turn.set_result(None)


async def _ask_system(host: str) -> Sequence[str]:
    ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(address[0]) for *_, address in await run_in_daemon_thread(ask)]
