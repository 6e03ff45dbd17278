"""Records of `session-events.invalid`: what could not be handled, where it came from, and why."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from streams.core.errors import FieldError, Invalid

# Headers that a stage adds when it stores an invalid record, in this order.
TOPIC, PARTITION, OFFSET, APPENDED_AT = "origin-topic", "origin-partition", "origin-offset", "origin-appended-at"
ERROR = "error"
# After them, if only the start of the value is stored, and neither the key nor the record's own headers.
VALUE_BYTES, VALUE_SHA256 = "value-bytes", "value-sha256"
_ORIGIN = (TOPIC, PARTITION, OFFSET, APPENDED_AT, ERROR)
_TRUNCATED = (*_ORIGIN, VALUE_BYTES, VALUE_SHA256)

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
    number: int, offset: int, stored_at: datetime, key: bytes | None, value: bytes | None, headers: Headers
) -> StoredRecord:
    """The invalid record that is stored at this place. What its headers do not say is empty or -1."""
    names = tuple(name for name, _ in headers)
    # By their place, because a record may have headers of the same names itself.
    marker_found = next((marker for marker in (_TRUNCATED, _ORIGIN) if names[-len(marker) :] == marker), ())
    own = headers[: len(headers) - len(marker_found)]
    text = {name: content.decode(errors="replace") for name, content in headers[len(own) :]}
    return StoredRecord(
        id=f"{number}-{offset}",
        stored_at=stored_at,
        topic=text.get(TOPIC, ""),
        partition=_number(text.get(PARTITION)),
        offset=_number(text.get(OFFSET)),
        error=text.get(ERROR, ""),
        key=key,
        value=value,
        headers=tuple(own),
        value_bytes=_number(text[VALUE_BYTES]) if VALUE_BYTES in text else len(value or b""),
        is_whole=VALUE_BYTES not in text,
    )


def place_of(record_id: str) -> tuple[int, int]:
    """The partition and the offset of an id. Raises `Invalid`."""
    number, sign, offset = record_id.partition("-")
    if not (sign and number.isascii() and number.isdigit() and offset.isascii() and offset.isdigit()):
        raise Invalid(FieldError("RECORD", f"{record_id!r} is not an id such as 0-17; `invalid list` shows them"))
    return int(number), int(offset)


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdigit() else -1
