"""Commit the offsets of records that a stage has stored, repeatedly until Kafka accepts them."""

from collections.abc import Iterable, Mapping

from streams.core.errors import Unavailable
from streams.core.records.offset_tracker import Commit
from streams.outage import COMMITS, Outages
from streams.ports.kafka import EventClient, Partition
from streams.ports.runtime import Telemetry


class StoredOffsets:
    """The next offsets of records that are stored but not committed. False if there are none."""

    def __init__(self, consumer: EventClient, telemetry: Telemetry, outages: Outages) -> None:
        self._consumer = consumer
        self._telemetry = telemetry
        self._outages = outages
        self._commits: dict[Partition, Commit] = {}

    def __bool__(self) -> bool:
        return bool(self._commits)

    def add(self, end_offsets: Mapping[Partition, int]) -> None:
        """Note that all records before these offsets are stored."""
        self._commits |= {partition: Commit(end, "") for partition, end in end_offsets.items()}

    def pop(self, partitions: Iterable[Partition]) -> dict[Partition, Commit]:
        """Forget these partitions, and return what was not committed."""
        return {partition: end for partition in partitions if (end := self._commits.pop(partition, None))}

    async def commit(self) -> None:
        """Commit once. Offsets that Kafka refuses are kept for the next call."""
        if not (commits := dict(self._commits)):
            return
        try:
            await self._consumer.commit(commits)
        except Unavailable as error:
            self._telemetry.count("commit_errors_total")
            self._outages[COMMITS].begin(self, str(error))
            return
        self._outages[COMMITS].end(self)
        for partition, end in commits.items():
            if self._commits.get(partition) == end:
                del self._commits[partition]
