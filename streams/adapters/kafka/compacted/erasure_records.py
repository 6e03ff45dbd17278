"""Apply a record of `erasures` to the table of erasures."""

from streams.core.erasures.erasure import ErasedLearner
from streams.core.erasures.erasure_record import ErasureTombstone, HashKey, decode_erasure_record
from streams.core.erasures.erasures_table import ErasuresTable
from streams.core.records.compacted_table import Sentinel
from streams.ports.kafka import Record


def apply_record(table: ErasuresTable, record: Record) -> None:
    """Apply an erasure, its end, a key or a sentinel. Raises `InvalidRecord` for any other record."""
    match decode_erasure_record(record.key, record.value, record.headers):
        case ErasedLearner() as erased:
            table.apply_erasure(record.offset, erased)
        case ErasureTombstone() as tombstone:
            table.apply_tombstone(record.offset, tombstone)
        case HashKey() as hash_key:
            table.apply_hash_key(record.offset, hash_key)
        case Sentinel() as sentinel:
            table.apply_sentinel(record.offset, sentinel)
