"""The positions of a consumer group's member in each of its partitions."""

from collections.abc import Iterable, Mapping, Sequence

from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Partition, Record


class ReadPositions:
    """The next offset of each assigned partition, and which of them are paused. Not thread-safe.

    Partitions that the member lost keep their offsets until its group assigns some again: a client that never gets them
    back is at a standstill.
    """

    def __init__(self) -> None:
        self._next_offsets: dict[Partition, int] = {}
        self._paused: set[Partition] = set()
        self._lost: set[Partition] = set()

    def readable_positions(self) -> Mapping[Partition, int]:
        """The next offset of each partition that is not paused; 0 stands for the beginning."""
        return {partition: offset for partition, offset in self._next_offsets.items() if partition not in self._paused}

    def on_assigned(self, partitions: Mapping[Partition, Commit | None]) -> None:
        if partitions:
            self.on_revoked(self._lost - partitions.keys(), is_lost=False)
            self._lost.clear()
        self._next_offsets |= {partition: commit.offset if commit else 0 for partition, commit in partitions.items()}
        self._paused.difference_update(partitions)

    def on_received(self, records: Sequence[Record]) -> None:
        ends = {record.partition: record.offset + 1 for record in records}
        # A record may arrive after its partition was revoked.
        self._next_offsets |= {partition: end for partition, end in ends.items() if partition in self._next_offsets}

    def on_revoked(self, partitions: Iterable[Partition], *, is_lost: bool) -> None:
        if is_lost:
            self._lost.update(partitions)
            self._paused.difference_update(partitions)
            return
        for partition in partitions:
            self._next_offsets.pop(partition, None)

    def pause(self, partition: Partition, rewind_to: int | None) -> None:
        self._paused.add(partition)
        if rewind_to is not None and partition in self._next_offsets:
            self._next_offsets[partition] = rewind_to

    def resume(self, partition: Partition) -> None:
        self._paused.discard(partition)
