"""Attend once to a delivery's record that comes more than once."""

import asyncio
from collections import OrderedDict
from types import TracebackType

from streams.core.delivery import Delivery


class Repeats:
    """The newest acknowledged (delivery, generation, step); forgetting one costs a repeat, never a loss."""

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._known: OrderedDict[str, None] = OrderedDict()
        # Those in hand, each with the twins that wait for it.
        self._in_hand: dict[str, list[asyncio.Future[None]]] = {}

    async def turn(self, delivery: Delivery) -> "RepeatsTurn":
        """To be entered: True for who is to attend; a twin waits, and has its turn only if the first one failed."""
        # What the delivery's id is computed from, which takes longer. The account is part of it: a record
        # that names the wrong one is parked, and must not pass for the right one.
        known = delivery.account_id, delivery.event_id, delivery.webhook_id, delivery.generation, delivery.step
        identity = " ".join(map(str, known))
        while (twins := self._in_hand.get(identity)) is not None:
            ended = asyncio.get_running_loop().create_future()
            twins.append(ended)
            await ended
        first = identity not in self._known
        if first:
            self._in_hand[identity] = []
        return RepeatsTurn(self, identity, first)

    def end(self, identity: str, *, done: bool) -> None:
        if done:
            self._known[identity] = None
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        for twin in self._in_hand.pop(identity):
            if not twin.done():
                twin.set_result(None)


class RepeatsTurn:
    """One delivery's turn; a class, because a generator costs more, and every delivery pays for it."""

    __slots__ = ("_first", "_identity", "_repeats")

    def __init__(self, repeats: Repeats, identity: str, first: bool) -> None:
        self._repeats = repeats
        self._identity = identity
        self._first = first

    def __enter__(self) -> bool:
        return self._first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._first:
            self._repeats.end(self._identity, done=error is None)
