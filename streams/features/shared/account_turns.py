"""A limit of work that reads a topic for people, of which no account takes every place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary


class AccountTurns:
    """At most `limit` turns, and one of an account at a time."""

    def __init__(self, limit: int) -> None:
        self._semaphore = asyncio.Semaphore(limit)
        # Unused locks vanish.
        self._accounts: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, account_id: str) -> AsyncIterator[None]:
        account_lock = self._accounts.setdefault(account_id, asyncio.Lock())
        async with account_lock, self._semaphore:
            yield
