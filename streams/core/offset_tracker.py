"""Tracks the offsets of one partition: records complete in any order, commits never pass an open record."""

import base64
from collections import deque
from dataclasses import dataclass

WINDOW_OFFSETS = 10_000
# Apache Kafka refuses commit metadata of 4096 bytes and more; the bitmap of the window stays far below.
MAX_METADATA_BYTES = 4095
_PREFIX = "1:"


@dataclass(frozen=True, slots=True)
class Commit:
    """What to commit: the next offset to read, and in `metadata` the offsets beyond it that are complete."""

    offset: int
    metadata: str


class OffsetTracker:
    """Offsets of one assignment of one partition, opened in order and completed in any order.

    `start` is the committed offset and `metadata` its metadata: records that are complete there are not opened again.
    Offsets may have gaps (compaction, control records).
    """

    def __init__(self, start: int = 0, metadata: str = "", window: int = WINDOW_OFFSETS) -> None:
        self._window = window
        self._base = start
        self._next = start
        self._open: deque[int] = deque()
        self._done: set[int] = set()
        self._restored = _decode(start, metadata)
        self._committed = Commit(start, metadata)
        self._is_untouched = True

    @property
    def open_count(self) -> int:
        return len(self._open) - len(self._done)

    def has_room(self, offset: int) -> bool:
        """Whether `offset` is within the window that a commit's metadata can describe."""
        return not self._open or offset - self._base < self._window

    def was_complete(self, offset: int) -> bool:
        """Whether the record was complete before the last restart."""
        return offset in self._restored

    def open(self, offset: int) -> bool:
        """Open a record. False when it was complete before the last restart and must not be handled again."""
        if self._is_untouched and offset < self._next:
            # The committed offset is beyond the end: the topic was truncated, or somebody set the offset.
            self._base = self._next = offset
            self._restored.clear()
        if offset < self._next:
            raise ValueError(f"offset {offset} is opened after {self._next - 1}")
        self._is_untouched = False
        self._next = offset + 1
        if not self._open:
            self._base = offset
        if offset in self._restored:
            self._restored.discard(offset)
            self._open.append(offset)
            self.complete(offset)
            return False
        self._open.append(offset)
        return True

    def complete(self, offset: int) -> None:
        """Complete a record: everything that follows from it is acknowledged."""
        self._done.add(offset)
        while self._open and self._open[0] in self._done:
            self._done.discard(self._open.popleft())
        self._base = self._open[0] if self._open else self._next

    def pending(self) -> Commit | None:
        """The next commit; None when it is committed already."""
        commit = Commit(self._base, _encode(self._base, self._done | self._restored))
        return None if commit == self._committed else commit

    def committed(self, commit: Commit) -> None:
        """The broker acknowledged this commit."""
        self._committed = commit


def _encode(base: int, completed_offsets: set[int]) -> str:
    relative = [offset - base for offset in completed_offsets if offset >= base]
    if not relative:
        return ""
    bitmap = bytearray(max(relative) // 8 + 1)
    for index in relative:
        bitmap[index // 8] |= 1 << index % 8
    return _PREFIX + base64.b64encode(bytes(bitmap)).decode()


def _decode(base: int, metadata: str) -> set[int]:
    # Metadata of another program or version costs duplicates, never a loss.
    if not metadata.startswith(_PREFIX):
        return set()
    try:
        bitmap = base64.b64decode(metadata[len(_PREFIX) :], validate=True)
    except ValueError:
        return set()
    return {base + i * 8 + bit for i, byte in enumerate(bitmap) for bit in range(8) if byte >> bit & 1}
