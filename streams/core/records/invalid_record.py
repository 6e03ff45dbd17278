"""Records of `session-events.invalid`: the invalid record, its origin and its error."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streams.core.errors import FieldError, Invalid

# Headers that a stage adds when it stores an invalid record, in this order.
TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, APPENDED_AT_HEADER = (
    "origin-topic",
    "origin-partition",
    "origin-offset",
    "origin-appended-at",
)
ERROR_HEADER = "error"
# They follow if only the start of the value is stored, without the key and the record's own headers.
VALUE_BYTES_HEADER, VALUE_SHA256_HEADER = "value-bytes", "value-sha256"
_ORIGIN_HEADERS = (TOPIC_HEADER, PARTITION_HEADER, OFFSET_HEADER, APPENDED_AT_HEADER, ERROR_HEADER)
_TRUNCATED_HEADERS = (*_ORIGIN_HEADERS, VALUE_BYTES_HEADER, VALUE_SHA256_HEADER)

Headers = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """An invalid record as it was read from `topic`, and its `error`.

    `id` is `<partition>-<offset>` in `session-events.invalid`. `value_bytes` is the size of the whole value; without
    `is_whole` only its start is stored.
    """

    id: str
    stored_at: datetime
    topic: str
    partition: int
    offset: int
    error: str
    key: bytes | None
    value: bytes | None = field(repr=False)
    headers: Headers = field(repr=False)
    value_bytes: int
    is_whole: bool


def stored_record(
    partition: int, offset: int, stored_at: datetime, key: bytes | None, value: bytes | None, headers: Headers
) -> StoredRecord:
    """The invalid record that is stored at this place. Values missing in its headers are empty or -1."""
    names = tuple(name for name, _ in headers)
    # Found by their place, because a record may itself have headers of the same names.
    marker_headers = next(
        (marker for marker in (_TRUNCATED_HEADERS, _ORIGIN_HEADERS) if names[-len(marker) :] == marker), ()
    )
    own_headers = headers[: len(headers) - len(marker_headers)]
    header_texts = {name: content.decode(errors="replace") for name, content in headers[len(own_headers) :]}
    return StoredRecord(
        id=f"{partition}-{offset}",
        stored_at=stored_at,
        topic=header_texts.get(TOPIC_HEADER, ""),
        partition=_number(header_texts.get(PARTITION_HEADER)),
        offset=_number(header_texts.get(OFFSET_HEADER)),
        error=header_texts.get(ERROR_HEADER, ""),
        key=key,
        value=value,
        headers=tuple(own_headers),
        value_bytes=_number(header_texts[VALUE_BYTES_HEADER])
        if VALUE_BYTES_HEADER in header_texts
        else len(value or b""),
        is_whole=VALUE_BYTES_HEADER not in header_texts,
    )


def parse_record_id(record_id: str) -> tuple[int, int]:
    """The partition and the offset of an id. Raises `Invalid`."""
    partition, separator, offset = record_id.partition("-")
    if not (separator and partition.isascii() and partition.isdigit() and offset.isascii() and offset.isdigit()):
        raise Invalid(FieldError("RECORD", f"{record_id!r} is not an id such as 0-17; `invalid list` shows them"))
    return int(partition), int(offset)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else -1
