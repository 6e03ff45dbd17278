"""Attend once to a delivery's record that comes more than once."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.core.delivery import Delivery

_Identity = tuple[str, int, int]


class Repeats:
    """The newest acknowledged (delivery, generation, step); forgetting one costs a repeat, never a loss."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._known: OrderedDict[_Identity, None] = OrderedDict()
        self._in_hand: dict[_Identity, asyncio.Event] = {}

    @asynccontextmanager
    async def turn(self, delivery: Delivery) -> AsyncIterator[bool]:
        """True for who is to attend to it; a twin waits meanwhile, and has its turn only if the first one failed."""
        identity = delivery.id, delivery.generation, delivery.step
        while twin := self._in_hand.get(identity):
            await twin.wait()
        if identity in self._known:
            yield False
            return
        ended = self._in_hand[identity] = asyncio.Event()
        try:
            yield True
            self._remember(identity)
        finally:
            del self._in_hand[identity]
            ended.set()

    def _remember(self, identity: _Identity) -> None:
        self._known[identity] = None
        if len(self._known) > self._limit:
            self._known.popitem(last=False)
