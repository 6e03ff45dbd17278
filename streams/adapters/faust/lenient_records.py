"""Read records whose header names are not UTF-8.

aiokafka 0.14.0 raises each time it fetches such a record, so the consumer never gets past it. Remove it when aiokafka
decodes header names with replacement characters, or hands out bytes.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

# A batch begins with its offset (8 bytes) and the length of the rest (4 bytes, big-endian).
_LENGTH_OFFSET, _PREFIX_BYTES = 8, 12


def read_leniently() -> None:
    """Let every aiokafka consumer of this process read header names with replacement characters."""
    fetcher.MemoryRecords = LenientRecords


class LenientRecords:
    """aiokafka's `MemoryRecords`. When its C parser refuses a batch for a header name, its Python parser reads it."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0
        self._records: Any = MemoryRecords(data)

    def size_in_bytes(self) -> int:
        return int(self._records.size_in_bytes())

    def has_next(self) -> bool:
        return bool(self._records.has_next())

    def next_batch(self) -> "_LenientBatch":
        start = self._position
        length_at = start + _LENGTH_OFFSET
        self._position += _PREFIX_BYTES + int.from_bytes(self._data[length_at : length_at + 4])
        return _LenientBatch(self._records.next_batch(), self._data[start : self._position])


class _LenientBatch:
    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            records = list(self._batch)
        except UnicodeDecodeError:
            records = list(_parse_in_python(self._data))
        return iter(records)


def _parse_in_python(data: memoryview) -> Any:
    batch = _DefaultRecordBatchPy(data)
    batch._maybe_uncompress()
    batch._buffer = _Buffer(batch._buffer)
    return batch


class _Buffer(bytearray):
    """Bytes whose slices always decode to text."""

    def __getitem__(self, index: Any) -> Any:
        value = super().__getitem__(index)
        return _Slice(value) if isinstance(index, slice) else value


class _Slice(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")
