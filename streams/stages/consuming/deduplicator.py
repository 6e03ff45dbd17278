"""Handle a delivery's record once, even if it comes several times."""

import asyncio

from streams.core.deliveries.delivery import Delivery
from streams.core.errors import ConflictingId


class Deduplicator:
    """The most recently acknowledged (delivery, generation, step), each with a hash of its body.

    It remembers at most `limit` of them, and at least half as many. Beyond the limit the oldest are forgotten, which
    may cost a duplicate but never a loss.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._max_recent = limit // 2
        # The older half is forgotten at once. An ordered dictionary that forgets one by one takes twice the memory.
        self._recent_hashes: dict[str, int] = {}
        self._older_hashes: dict[str, int] = {}
        # Records that are handled now, each with the duplicates that wait for it.
        self._in_progress: dict[str, list[asyncio.Future[None]]] = {}

    async def begin(self, delivery: Delivery) -> str | None:
        """Begin to handle a record, until `end`; None for a duplicate of an acknowledged record.

        A duplicate waits for the first record, and is handled itself only if the first one failed. Raises
        `ConflictingId` for a delivery whose event was acknowledged with another body.
        """
        # The fields that make up the delivery's id, which takes longer to compute. The account is one of them: a
        # record with the wrong account is invalid, and must not pass for the right one.
        fields = delivery.account_id, delivery.event_id, delivery.webhook_id, delivery.generation, delivery.step
        record_key = " ".join(map(str, fields))
        while (duplicates := self._in_progress.get(record_key)) is not None:
            future = asyncio.get_running_loop().create_future()
            duplicates.append(future)
            await future
        acknowledged_hash = self._recent_hashes.get(record_key, self._older_hashes.get(record_key))
        if acknowledged_hash is None:
            self._in_progress[record_key] = []
            return record_key
        if acknowledged_hash != hash(delivery.body):
            raise ConflictingId(delivery.account_id, delivery.event_id)
        return None

    def end(self, record_key: str, delivery: Delivery, *, is_done: bool) -> None:
        if is_done:
            self._recent_hashes[record_key] = hash(delivery.body)
            if len(self._recent_hashes) >= self._max_recent:
                self._recent_hashes, self._older_hashes = {}, self._recent_hashes
        for duplicate in self._in_progress.pop(record_key):
            if not duplicate.done():
                duplicate.set_result(None)
