"""End a process whose consumer stands still, so that its supervisor starts it again."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from streams.core.errors import ScormWebhooksError, Unavailable
from streams.ports import Partition, Telemetry

# Comparisons within the time of a standstill.
ROUNDS = 3

Positions = Callable[[], Mapping[Partition, int]]


class ConsumerStandsStill(ScormWebhooksError):
    """The consumer reads nothing, although there are records; the process must exit and start again."""


class Probe(Protocol):
    """Looks with another client whether there are records."""

    async def readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
        """The partitions that have a record at this offset or later. Raises `Unavailable`."""


class ConsumerWatchdog:
    """Compares where a consumer stands with what another client can read, `ROUNDS` times in `seconds`.

    `positions` has the next offset of each partition that should be read now: assigned, not paused, with nothing in
    hand, and with a broker that answers. With 0 seconds it does nothing. `on_standstill` is called before it raises: a
    consumer that stands still may also hang when it is closed.
    """

    def __init__(
        self,
        name: str,
        positions: Positions,
        probe: Probe,
        telemetry: Telemetry,
        seconds: float,
        on_standstill: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._positions = positions
        self._probe = probe
        self._telemetry = telemetry
        self._seconds = seconds
        self._on_standstill = on_standstill
        self._looked_at = 0.0
        self._last: Mapping[Partition, int] = {}
        # Since when there has been a record that was not read, in seconds of the loop's clock.
        self._unread_since: dict[Partition, float] = {}
        self._forgotten: set[Partition] = set()

    async def run(self) -> None:
        """Watch until cancelled. Raises `ConsumerStandsStill`."""
        loop = asyncio.get_running_loop()
        if not self._seconds:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._seconds / ROUNDS)
            await self.look(loop.time())

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Start the time of these partitions again: they were assigned, or resumed after a pause."""
        self._forgotten.update(partitions)

    async def look(self, now: float) -> None:
        """Compare once. A partition that moves costs no request."""
        if now - self._looked_at > 2 * self._seconds / ROUNDS:
            # This process was frozen or starved: its consumer has only now gone on.
            self._last, self._unread_since = {}, {}
        self._looked_at = now
        self._last = {position: at for position, at in self._last.items() if position not in self._forgotten}
        self._forgotten.clear()
        unmoved_partitions = self._unmoved()
        try:
            unread = await self._probe.readable(unmoved_partitions)
        except Unavailable:
            # Without a broker that answers, nobody can say whether there are records.
            unread = set()
        # What was read, paused or revoked during the question stands still no more.
        unread &= self._unmoved().keys() - self._forgotten
        self._last = self._positions()
        self._unread_since = {position: self._unread_since.get(position, now) for position in unread}
        oldest = min(self._unread_since, key=self._unread_since.__getitem__, default=None)
        seconds = now - self._unread_since[oldest] if oldest else 0.0
        self._telemetry.gauge("consumer_standstill_seconds", seconds, consumer=self._name)
        if oldest and seconds >= self._seconds:
            self._stands_still(oldest, seconds)

    def _unmoved(self) -> dict[Partition, int]:
        """The partitions that stand where they stood at the last look."""
        return {position: at for position, at in self._positions().items() if self._last.get(position) == at}

    def _stands_still(self, partition: Partition, seconds: float) -> None:
        topic, number = partition
        offset = self._last[partition]
        self._telemetry.error(
            "consumer_stands_still", topic=topic, partition=number, offset=offset, seconds=round(seconds)
        )
        self._on_standstill()
        raise ConsumerStandsStill(
            f"{topic} {number}: nothing was read for {seconds:.0f} seconds, although another client can read a record "
            f"at offset {offset} or later; this process ends, so that it is started again"
        )


# Makes the watchdog of a consumer from its name and its positions.
NewWatchdog = Callable[[str, Positions], ConsumerWatchdog]
