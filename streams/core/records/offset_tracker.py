"""Track the offsets of one partition: records complete in any order, and commits never pass an open record."""

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
        self._next_offset = start
        self._open_offsets: deque[int] = deque()
        self._completed_offsets: set[int] = set()
        self._restored_offsets = _decode(start, metadata)
        self._last_commit = Commit(start, metadata)
        self._is_untouched = True

    @property
    def open_count(self) -> int:
        return len(self._open_offsets) - len(self._completed_offsets)

    def is_within_window(self, offset: int) -> bool:
        """Whether `offset` is within the window that a commit's metadata can describe."""
        return not self._open_offsets or offset - self._base < self._window

    def is_restored(self, offset: int) -> bool:
        """Whether the record was complete before the last restart."""
        return offset in self._restored_offsets

    def open(self, offset: int) -> bool:
        """Open a record. False when it was complete before the last restart and must not be handled again."""
        if self._is_untouched and offset < self._next_offset:
            # The committed offset is beyond the end: the topic was truncated, or somebody set the offset.
            self._base = self._next_offset = offset
            self._restored_offsets.clear()
        if offset < self._next_offset:
            raise ValueError(f"offset {offset} is opened after {self._next_offset - 1}")
        self._is_untouched = False
        self._next_offset = offset + 1
        if not self._open_offsets:
            self._base = offset
        if offset in self._restored_offsets:
            self._restored_offsets.discard(offset)
            self._open_offsets.append(offset)
            self.complete(offset)
            return False
        self._open_offsets.append(offset)
        return True

    def complete(self, offset: int) -> None:
        """Complete a record: everything that follows from it is acknowledged."""
        self._completed_offsets.add(offset)
        while self._open_offsets and self._open_offsets[0] in self._completed_offsets:
            self._completed_offsets.discard(self._open_offsets.popleft())
        self._base = self._open_offsets[0] if self._open_offsets else self._next_offset

    def next_commit(self) -> Commit | None:
        """The next commit; None when it is committed already."""
        commit = Commit(self._base, _encode(self._base, self._completed_offsets | self._restored_offsets))
        return None if commit == self._last_commit else commit

    def confirm_commit(self, commit: Commit) -> None:
        """Note that the broker acknowledged this commit."""
        self._last_commit = commit


def _encode(base: int, completed_offsets: set[int]) -> str:
    relative_offsets = [offset - base for offset in completed_offsets if offset >= base]
    if not relative_offsets:
        return ""
    bitmap = bytearray(max(relative_offsets) // 8 + 1)
    for index in relative_offsets:
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
