"""Track whether a member of a consumer group has its partitions."""

import time
from collections.abc import Iterable

from streams.ports.kafka import Partition

# A group with more members than partitions assigns none to some members, without an event.
JOIN_SECONDS = 15.0


class Membership:
    """Counts the partitions of this member. Not thread-safe."""

    def __init__(self, *, is_sole_member: bool) -> None:
        self._is_sole_member = is_sole_member
        self._partitions: set[Partition] = set()
        self._expected_count = 0
        self._has_joined = False
        self._has_lost = False
        self._begun_at: float | None = None

    def begin(self) -> None:
        self._begun_at = time.monotonic()

    def expect(self, count: int) -> None:
        """Note how many partitions the topics have."""
        self._expected_count = count

    def on_assigned(self, partitions: Iterable[Partition]) -> None:
        self._has_joined = True
        self._partitions.update(partitions)
        self._has_lost = self._has_lost and not self._partitions

    def on_revoked(self, partitions: Iterable[Partition], *, is_lost: bool) -> None:
        self._has_lost = self._has_lost or is_lost
        self._partitions.difference_update(partitions)

    def readiness_problems(self) -> list[str]:
        """Why this member does not read all of its partitions yet."""
        if not self._has_joined and (self._begun_at is None or time.monotonic() - self._begun_at < JOIN_SECONDS):
            return ["has no partitions yet: its group assigns them"]
        if self._has_lost:
            return ["was away for too long and lost its partitions: its group has not assigned any again"]
        if self._is_sole_member and len(self._partitions) < max(1, self._expected_count):
            return [
                f"reads {len(self._partitions)} of {self._expected_count} partitions; a member that was killed "
                "keeps the others until its session ends"
            ]
        return []
