"""Places for what runs at once: owners take turns, and each class has places that no other takes."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from streams.core.errors import ScormWebhooksError
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
        # Classes and owners whose turn is next come first.
        self._waiting: dict[RequestClass, dict[str, deque[asyncio.Future[None]]]] = {}

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
        queues = self._waiting.get(request_class, {})
        if owner not in queues and self._has_room(request_class) and self._may_have_more(request_class, owner):
            self._take(request_class, owner)
            return
        if len(queues.get(owner, ())) >= self._limits[request_class].max_waiting:
            raise NoPlace("too many requests wait for a place")
        queue = self._waiting.setdefault(request_class, {}).setdefault(owner, deque())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
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
        queues = self._waiting[request_class]
        owner = next((owner for owner in queues if self._may_have_more(request_class, owner)), None)
        if owner is None:
            return False
        queue = queues.pop(owner)
        turn = queue.popleft()
        if queue:
            queues[owner] = queue
        del self._waiting[request_class]
        if queues:
            self._waiting[request_class] = queues
        # Who was cancelled in this moment needs no place: the next one gets it.
        if not turn.cancelled():
            turn.set_result(None)
            self._take(request_class, owner)
        return True

    def _forget(self, request_class: RequestClass, owner: str, turn: asyncio.Future[None]) -> None:
        queues = self._waiting.get(request_class, {})
        queue = queues.get(owner, deque())
        if turn in queue:
            queue.remove(turn)
        if not queue:
            queues.pop(owner, None)
        if not queues:
            self._waiting.pop(request_class, None)

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
