"""A limit of work that reads a topic for people, of which no account takes every place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class AccountTurns:
    """At most `at_once` turns, and one of an account at a time."""

    def __init__(self, at_once: int) -> None:
        self._at_once = asyncio.Semaphore(at_once)
        # Unused locks vanish.
        self._accounts: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, account_id: str) -> AsyncIterator[None]:
        of_account = self._accounts.setdefault(account_id, asyncio.Lock())
        async with of_account, self._at_once:
            yield
