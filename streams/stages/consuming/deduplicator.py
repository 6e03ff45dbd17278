"""Handle a delivery's record once when it comes more than once."""

import asyncio
from types import TracebackType

from streams.core.delivery import Delivery
from streams.core.errors import ConflictingId


class Deduplicator:
    """The newest acknowledged (delivery, generation, step), each with a hash of its body.

    It remembers `limit` of them at most, and half as many at least. A forgotten one costs a duplicate, never a loss.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._most_recent = limit // 2
        # The older half is forgotten at once. An ordered dictionary that forgets one by one takes twice the memory.
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}
        # Records that are handled now, each with the duplicates that wait for it.
        self._in_progress: dict[str, list[asyncio.Future[None]]] = {}

    async def turn(self, delivery: Delivery) -> "DeduplicatorTurn":
        """To be used in a `with`, which gives True to the first of several duplicates.

        A duplicate waits for the first one, and handles the record itself only if the first one failed. Raises
        `ConflictingId` for a delivery whose event was acknowledged with another body.
        """
        # The fields that make up the delivery's id, which takes longer to compute. The account is one of them: a
        # record with the wrong account is invalid, and must not pass for the right one.
        fields = delivery.account_id, delivery.event_id, delivery.webhook_id, delivery.generation, delivery.step
        identity = " ".join(map(str, fields))
        while (duplicates := self._in_progress.get(identity)) is not None:
            ended = asyncio.get_running_loop().create_future()
            duplicates.append(ended)
            await ended
        body = hash(delivery.body)
        acknowledged = self._recent.get(identity, self._older.get(identity))
        is_first = acknowledged is None
        if is_first:
            self._in_progress[identity] = []
        elif acknowledged != body:
            raise ConflictingId(delivery.account_id, delivery.event_id)
        return DeduplicatorTurn(self, identity, body, is_first)

    def end(self, identity: str, body: int, *, done: bool) -> None:
        if done:
            self._recent[identity] = body
            if len(self._recent) >= self._most_recent:
                self._recent, self._older = {}, self._recent
        for duplicate in self._in_progress.pop(identity):
            if not duplicate.done():
                duplicate.set_result(None)


class DeduplicatorTurn:
    """The turn of one record; a class, because a generator costs more, and every delivery pays for it."""

    __slots__ = ("_body", "_deduplicator", "_identity", "_is_first")

    def __init__(self, deduplicator: Deduplicator, identity: str, body: int, is_first: bool) -> None:
        self._deduplicator = deduplicator
        self._identity = identity
        self._body = body
        self._is_first = is_first

    def __enter__(self) -> bool:
        return self._is_first

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._is_first:
            self._deduplicator.end(self._identity, self._body, done=error is None)
