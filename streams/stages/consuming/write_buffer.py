"""What `record` has read and not stored yet: what fan-out wrote stays a moment, for its attempt says more."""

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streams.ports import Partition, Record, RecordConsumer
from streams.topics import DELIVERIES

# A delivery that is stored before its attempt is written twice, and nearly all are attempted sooner than this.
LINGER_SECONDS = 1.0
# Behind a flood of attempts nothing stays longer.
PATIENCE_SECONDS = 10.0
# So many attempts at once are a flood of them.
FLOOD_RECORDS = 100
HIGH_WATER = 8000


@dataclass(slots=True)
class _ProduceLane:
    """Records in the order in which they came, each with when it may be taken."""

    arrived: deque[tuple[float, Record]] = field(default_factory=deque)
    partitions: set[Partition] = field(default_factory=set)
    full: bool = False

    def since(self, moment: float) -> bool:
        """Whether the oldest might have been taken then."""
        return bool(self.arrived) and self.arrived[0][0] <= moment

    def take(self, most: int, until: float) -> list[Record]:
        taken: list[Record] = []
        while len(taken) < most and self.since(until):
            taken.append(self.arrived.popleft()[1])
        return taken


class WriteBuffer:
    """Two lanes, `deliveries` and all other topics; the records of each partition leave in their order.

    In a flood `deliver` may be behind: then as many deliveries are taken as attempts, and the rest when it has passed.
    A lane that is full is fed no more until half of it has left. Times are seconds of any one clock, but for `today`.
    """

    def __init__(self, consumer: RecordConsumer) -> None:
        self._consumer = consumer
        self._prompt = _ProduceLane()
        self._patient = _ProduceLane()
        self._flooded_at = -math.inf
        self.closed = False

    def open(self, partitions: Iterable[Partition]) -> None:
        for partition in partitions:
            self._lane(partition).partitions.add(partition)

    def close(self) -> None:
        """Nothing more comes, and nothing lingers."""
        self.closed = True

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Partitions that another member reads now."""
        gone = set(partitions)
        for lane in (self._prompt, self._patient):
            lane.partitions -= gone
            lane.arrived = deque(one for one in lane.arrived if one[1].partition not in gone)
        self._make_room()

    def add(self, records: Sequence[Record], now: float, today: datetime) -> None:
        # What followed the last one that was kept would be committed past what lies between.
        if self.closed:
            return
        for record in records:
            lane = self._lane(record.partition)
            wait = 0.0
            if lane is self._patient:
                wait = LINGER_SECONDS - max(0.0, (today - record.appended_at).total_seconds())
            lane.arrived.append((now + max(0.0, wait), record))
        for lane in (self._prompt, self._patient):
            if len(lane.arrived) >= HIGH_WATER:
                lane.full = True
                for partition in lane.partitions:
                    self._consumer.pause(partition)

    def take(self, most: int, now: float) -> list[Record]:
        """What is to be stored now."""
        overdue = self._patient.since(now - PATIENCE_SECONDS)
        taken = self._prompt.take(most // 2 if overdue else most, now)
        if len(taken) >= FLOOD_RECORDS:
            self._flooded_at = now
        room = most - len(taken)
        if not (overdue or self.closed) and now < self._flooded_at + LINGER_SECONDS:
            room = min(room, len(taken))
        taken += self._patient.take(room, math.inf if self.closed else now)
        self._make_room()
        return taken

    def next_at(self) -> float | None:
        """When there is something to take, if nothing more comes."""
        if self._prompt.arrived:
            return self._prompt.arrived[0][0]
        if not self._patient.arrived:
            return None
        ready = self._patient.arrived[0][0]
        return min(max(ready, self._flooded_at + LINGER_SECONDS), ready + PATIENCE_SECONDS)

    def _lane(self, partition: Partition) -> _ProduceLane:
        return self._patient if partition.topic == DELIVERIES else self._prompt

    def _make_room(self) -> None:
        for lane in (self._prompt, self._patient):
            if lane.full and len(lane.arrived) <= HIGH_WATER // 2:
                lane.full = False
                for partition in lane.partitions:
                    self._consumer.resume(partition)
