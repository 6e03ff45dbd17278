"""Attend once to a delivery's record that comes more than once."""

import asyncio
from collections import OrderedDict
from types import TracebackType

from streams.core.delivery import Delivery
from streams.core.errors import ConflictingId


class Deduplicator:
    """The newest acknowledged (delivery, generation, step), each with a hash of its body.

    Forgetting one costs a repeat, never a loss.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._known: OrderedDict[str, int] = OrderedDict()
        # Those in hand, each with the twins that wait for it.
        self._in_hand: dict[str, list[asyncio.Future[None]]] = {}

    async def turn(self, delivery: Delivery) -> "DeduplicatorTurn":
        """To be entered: True for who is to attend; a twin waits, and has its turn only if the first one failed.

        Raises `ConflictingId` for a delivery whose event was delivered with another body.
        """
        # What the delivery's id is computed from, which takes longer. The account is part of it: a record
        # that names the wrong one is parked, and must not pass for the right one.
        known = delivery.account_id, delivery.event_id, delivery.webhook_id, delivery.generation, delivery.step
        identity = " ".join(map(str, known))
        while (twins := self._in_hand.get(identity)) is not None:
            ended = asyncio.get_running_loop().create_future()
            twins.append(ended)
            await ended
        body = hash(delivery.body)
        first = identity not in self._known
        if first:
            self._in_hand[identity] = []
        elif self._known[identity] != body:
            raise ConflictingId(delivery.account_id, delivery.event_id)
        return DeduplicatorTurn(self, identity, body, first)

    def end(self, identity: str, body: int, *, done: bool) -> None:
        if done:
            self._known[identity] = body
            if len(self._known) > self._limit:
                self._known.popitem(last=False)
        for twin in self._in_hand.pop(identity):
            if not twin.done():
                twin.set_result(None)


class DeduplicatorTurn:
    """One delivery's turn; a class, because a generator costs more, and every delivery pays for it."""

    __slots__ = ("_body", "_first", "_identity", "_repeats")

    def __init__(self, repeats: Deduplicator, identity: str, body: int, first: bool) -> None:
        self._repeats = repeats
        self._identity = identity
        self._body = body
        self._first = first

    def __enter__(self) -> bool:
        return self._first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._first:
            self._repeats.end(self._identity, self._body, done=error is None)
