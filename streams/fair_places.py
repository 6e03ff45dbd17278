"""Places for concurrent work: owners take turns, and each class has reserved places."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial

from streams.core.errors import ScormWebhooksError
from streams.core.queues.fair_queue import FairQueue
from streams.core.queues.request_class import PlaceLimit, RequestClass


class NoPlace(ScormWebhooksError):
    """No place became free in time, or too many of this owner wait already."""


class FairPlaces:
    """`total` places for classes with these limits.

    A free place goes to the classes in turns, and within a class to its owners in turns. Each owner's own requests
    keep their order.
    """

    def __init__(self, total: int, limits: Mapping[RequestClass, PlaceLimit]) -> None:
        self._total = total
        self._limits = limits
        self._in_use: Counter[RequestClass] = Counter()
        self._owners_in_use: Counter[tuple[RequestClass, str]] = Counter()
        # The class whose turn is next comes first; a class is here while somebody waits.
        self._waiting: dict[RequestClass, FairQueue[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def place(self, request_class: RequestClass, owner: str, seconds: float) -> AsyncIterator[None]:
        """Hold a place. Raises `NoPlace` if none is free after some seconds."""
        await self.acquire(request_class, owner, seconds)
        try:
            yield
        finally:
            self.release(request_class, owner)

    async def acquire(self, request_class: RequestClass, owner: str, seconds: float) -> None:
        """Take a place, to be given back by `release`. Raises `NoPlace` if none is free after some seconds."""
        waiting = self._waiting.get(request_class)
        waiting_count = waiting.count_of(owner) if waiting else 0
        if not waiting_count and self._has_room(request_class) and self._may_have_more(request_class, owner):
            self._take(request_class, owner)
            return
        if waiting_count >= self._limits[request_class].max_waiting:
            raise NoPlace("too many requests wait for a place")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(request_class, FairQueue()).put(owner, turn)
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException as error:
            if turn.cancelled():
                self._forget(request_class, owner, turn)
            else:  # The turn came in the same moment.
                self.release(request_class, owner)
            if isinstance(error, TimeoutError):
                raise NoPlace("no place became free in time") from None
            raise

    def release(self, request_class: RequestClass, owner: str) -> None:
        """Give a place back, and give free places to those who wait."""
        self._in_use[request_class] -= 1
        self._owners_in_use[request_class, owner] -= 1
        if not self._owners_in_use[request_class, owner]:
            del self._owners_in_use[request_class, owner]
        if self._waiting:
            self._grant_waiting()

    def in_use(self) -> Mapping[RequestClass, int]:
        """How many places each class has."""
        return {request_class: self._in_use[request_class] for request_class in self._limits}

    def _grant_waiting(self) -> None:
        is_given = True
        while is_given:
            is_given = any(self._give_turn(request_class) for request_class in list(self._waiting))

    def _give_turn(self, request_class: RequestClass) -> bool:
        """Give the class's next owner a place. Both go to the end of their turns."""
        if not self._has_room(request_class):
            return False
        taken = self._waiting[request_class].take_one(partial(self._may_have_more, request_class))
        if taken is None:
            return False
        owner, turn = taken
        waiting = self._waiting.pop(request_class)
        if waiting:
            self._waiting[request_class] = waiting
        # A waiter that was just cancelled needs no place: the next one gets it.
        if not turn.cancelled():
            turn.set_result(None)
            self._take(request_class, owner)
        return True

    def _forget(self, request_class: RequestClass, owner: str, turn: asyncio.Future[None]) -> None:
        waiting = self._waiting.get(request_class)
        if waiting is not None:
            waiting.remove(owner, turn)
            if not waiting:
                del self._waiting[request_class]

    def _take(self, request_class: RequestClass, owner: str) -> None:
        self._in_use[request_class] += 1
        self._owners_in_use[request_class, owner] += 1

    def _has_room(self, request_class: RequestClass) -> bool:
        """Whether there is a free place that is not reserved for another class."""
        if self._in_use[request_class] >= self._limits[request_class].at_most:
            return False
        free = self._total - self._in_use.total()
        reserved = sum(
            max(0, limit.reserved - self._in_use[other])
            for other, limit in self._limits.items()
            if other is not request_class
        )
        return free > reserved

    def _may_have_more(self, request_class: RequestClass, owner: str) -> bool:
        return self._owners_in_use[request_class, owner] < self._limits[request_class].per_owner
