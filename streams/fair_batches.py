"""Handle what was read ahead in batches, one at a time, in which accounts take turns."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic

from streams.ports import CostOf, HandleEvents, Telemetry
from streams.read_ahead import LARGE_BATCH, SMALL_BATCH, Event, ReadAhead

# While more events arrive, they are read before the next batch, for this long, and that batch is small: the event of
# an account that sends few may be the last.
READ_SECONDS = 0.1
# A batch of this size means that events come often: the next batch waits for more, which saves the broker requests.
BUSY_RECORDS, FULL_RECORDS = 10, 500
GATHER_SECONDS = 0.02
REVOKE_SECONDS = 3.0


class FairBatches(Generic[Event]):
    """Takes batches from `read_ahead`. `acknowledge` takes the events that are done, in the order of each partition."""

    def __init__(
        self,
        read_ahead: ReadAhead[Event],
        acknowledge: Callable[[Sequence[Event]], Awaitable[None]],
        telemetry: Telemetry,
    ) -> None:
        self._read_ahead = read_ahead
        self._acknowledge = acknowledge
        self._telemetry = telemetry
        # Set when something was read, and when nothing more is to be read at once.
        self._arrived, self._caught_up = asyncio.Event(), asyncio.Event()
        # Set while no batch is in hand.
        self._idle = asyncio.Event()
        self._idle.set()
        self.is_draining = False

    def note_read(self, *, more: bool) -> None:
        """Note that events were read. `more`: others can be read at once."""
        self._arrived.set()
        if more and not self._read_ahead.is_full:
            self._caught_up.clear()
        else:
            self._caught_up.set()

    async def run(self, handle: HandleEvents, cost_of: CostOf) -> None:
        """Handle batches until cancelled. Raises what `handle` raised; its batch is not acknowledged."""
        while True:
            has_read = await self._until_read()
            if self.is_draining:
                await asyncio.Event().wait()
            self._idle.clear()
            try:
                batch = self._read_ahead.take(cost_of, LARGE_BATCH if has_read else SMALL_BATCH)
                if batch:
                    await handle([pending.record for pending in batch])
                await self._acknowledge(self._read_ahead.complete(batch))
            finally:
                self._idle.set()
            if BUSY_RECORDS <= len(batch) < FULL_RECORDS and not self._read_ahead.has_queued:
                await asyncio.sleep(GATHER_SECONDS)

    async def drain(self, seconds: float) -> None:
        """Start no other batch, and wait until the one in hand is acknowledged. Raises `TimeoutError`."""
        self.is_draining = True
        await asyncio.wait_for(self._idle.wait(), seconds)

    async def finish(self) -> None:
        """Wait a limited time for the batch in hand: its partitions go to another member."""
        try:
            await asyncio.wait_for(self._idle.wait(), REVOKE_SECONDS)
        except TimeoutError:
            self._telemetry.warning("revoke_timed_out", effect="the batch in hand is handled again by the next owner")

    async def _until_read(self) -> bool:
        """Wait until there is something to do, and a moment longer while more arrives. False when even more arrives."""
        if not self._read_ahead.has_queued:
            self._arrived.clear()
            await self._arrived.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(READ_SECONDS):
                await self._caught_up.wait()
        return self._caught_up.is_set()
