"""Let coroutines wait for a slot."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from streams.core.slots import Slots


class SlotKeeper:
    """`slot` waits for its turn; after `close` nobody gets one any more."""

    def __init__(self, slots: Slots[asyncio.Future[None]]) -> None:
        self._slots = slots
        self._waiting: set[asyncio.Future[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def slot(self, webhook_id: str, cap: int) -> AsyncIterator[None]:
        """Hold one of the webhook's `cap` slots; CancelledError when the keeper closes first."""
        if self._closed:
            raise asyncio.CancelledError
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(turn)
        self._slots.ask(webhook_id, cap, turn)
        self._grant()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(webhook_id)
            raise
        try:
            yield
        finally:
            self._give_back(webhook_id)

    def close(self) -> None:
        """Cancel whoever waits: what has not left yet stays uncommitted and is sent after the restart."""
        self._closed = True
        for turn in self._waiting:
            turn.cancel()
        self._waiting.clear()

    def _give_back(self, webhook_id: str) -> None:
        self._slots.release(webhook_id)
        self._grant()

    def _grant(self) -> None:
        if self._closed:
            return
        while granted := self._slots.grant():
            for webhook_id, turn in granted:
                self._waiting.discard(turn)
                if turn.cancelled():
                    self._slots.release(webhook_id)
                else:
                    turn.set_result(None)
