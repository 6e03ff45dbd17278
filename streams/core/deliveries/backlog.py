"""Waiting work of the whole deployment: deliveries by state, and the records that stages have not committed."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

MAX_SAMPLES = 512


class WaitingCount(NamedTuple):
    """How many deliveries wait for the same reason, and since when the first of them waits.

    For a tier, `since` is when its first retry is due.
    """

    deliveries: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Webhooks by status; undelivered deliveries by tier or reason."""

    webhooks: Mapping[str, int]
    retries: Mapping[str, WaitingCount]
    held: Mapping[str, WaitingCount]
    dead: Mapping[str, WaitingCount]


class GroupOffsets(NamedTuple):
    """The next offset that a group reads in a partition, and the partition's end."""

    committed: int
    end: int


@dataclass(slots=True)
class LagClock:
    """Computes how long the oldest uncommitted record of a partition has waited, from samples of the partition's end.

    A record was appended after the last sample with an end at or before it: the result is at most one interval too
    long. Before the first sample nothing is known, and the result is too short.
    """

    _samples: deque[tuple[datetime, int]] = field(default_factory=deque)

    def lag_seconds(self, offsets: GroupOffsets, now: datetime) -> float:
        """Take a sample, and return the age of the record at `committed` in seconds; 0 if all are committed."""
        if self._samples and offsets.end < self._samples[-1][1]:
            self._samples.clear()  # The topic was made again.
        self._samples.append((now, offsets.end))
        while len(self._samples) > 1 and self._samples[1][1] <= offsets.committed:
            self._samples.popleft()
        if len(self._samples) > MAX_SAMPLES:
            # The first one stays: it says how old the oldest record is.
            self._samples = deque(list(self._samples)[::2])
        if offsets.committed >= offsets.end:
            return 0.0
        return (now - self._samples[0][0]).total_seconds()
