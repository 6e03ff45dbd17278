"""End a process whose consumer stands still, so that its supervisor restarts it."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from streams.core.errors import ScormWebhooksError, Unavailable
from streams.ports.kafka import Partition
from streams.ports.runtime import Telemetry

# The number of comparisons within the time of a standstill.
CHECKS_PER_STANDSTILL = 3

GetPositions = Callable[[], Mapping[Partition, int]]


class ConsumerStandsStill(ScormWebhooksError):
    """The consumer reads nothing although there are records; the process must exit and start again."""


class PositionProbe(Protocol):
    """Checks with another client whether there are records."""

    async def find_readable(self, positions: Mapping[Partition, int]) -> set[Partition]:
        """The partitions that have a record at this offset or later. Raises `Unavailable`."""


class ConsumerWatchdog:
    """Compares a consumer's position with what another client can read, `CHECKS_PER_STANDSTILL` times in `seconds`.

    `positions` has the next offset of each partition that should be read now: assigned, not paused, with nothing in
    hand, and with a broker that responds. With 0 seconds it does nothing. `on_standstill` is called before it raises,
    because a consumer that stands still may also hang when it is closed.
    """

    def __init__(
        self,
        name: str,
        positions: GetPositions,
        probe: PositionProbe,
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
        self._checked_at = 0.0
        self._last_positions: Mapping[Partition, int] = {}
        # When each partition's unread record was first noticed, in seconds of the loop's clock.
        self._unread_since: dict[Partition, float] = {}
        self._reset_partitions: set[Partition] = set()

    async def run(self) -> None:
        """Watch until cancelled. Raises `ConsumerStandsStill`."""
        loop = asyncio.get_running_loop()
        if not self._seconds:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(self._seconds / CHECKS_PER_STANDSTILL)
            await self.check(loop.time())

    def reset(self, partitions: Iterable[Partition]) -> None:
        """Restart the time of these partitions: they were assigned, or resumed after a pause."""
        self._reset_partitions.update(partitions)

    async def check(self, now: float) -> None:
        """Compare once. A partition whose position moves costs no request."""
        if now - self._checked_at > 2 * self._seconds / CHECKS_PER_STANDSTILL:
            # This process was frozen or starved: its consumer has only just resumed.
            self._last_positions, self._unread_since = {}, {}
        self._checked_at = now
        self._last_positions = {
            position: at for position, at in self._last_positions.items() if position not in self._reset_partitions
        }
        self._reset_partitions.clear()
        unmoved_partitions = self._unmoved_positions()
        try:
            unread_partitions = await self._probe.find_readable(unmoved_partitions)
        except Unavailable:
            # While no broker responds, it is unknown whether there are records.
            unread_partitions = set()
        # A partition that was read, paused or revoked during the request no longer stands still.
        unread_partitions &= self._unmoved_positions().keys() - self._reset_partitions
        self._last_positions = self._positions()
        self._unread_since = {position: self._unread_since.get(position, now) for position in unread_partitions}
        oldest_partition = min(self._unread_since, key=self._unread_since.__getitem__, default=None)
        seconds = now - self._unread_since[oldest_partition] if oldest_partition else 0.0
        self._telemetry.gauge("consumer_standstill_seconds", seconds, consumer=self._name)
        if oldest_partition and seconds >= self._seconds:
            self._fail(oldest_partition, seconds)

    def _unmoved_positions(self) -> dict[Partition, int]:
        """The partitions whose position has not moved since the last check."""
        return {position: at for position, at in self._positions().items() if self._last_positions.get(position) == at}

    def _fail(self, partition: Partition, seconds: float) -> None:
        topic, number = partition
        offset = self._last_positions[partition]
        self._telemetry.error(
            "consumer_stands_still", topic=topic, partition=number, offset=offset, seconds=round(seconds)
        )
        self._on_standstill()
        raise ConsumerStandsStill(
            f"{topic} {number}: nothing was read for {seconds:.0f} seconds, although another client can read a record "
            f"at offset {offset} or later; this process ends, so that it is started again"
        )


# Makes the watchdog of a consumer from the consumer's name and positions.
NewWatchdog = Callable[[str, GetPositions], ConsumerWatchdog]
