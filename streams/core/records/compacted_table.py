"""The base of the tables of compacted topics, which are complete only when the sentinel says so."""

import json
from collections.abc import Sized
from dataclasses import dataclass

from streams.core.errors import InvalidRecord
from streams.core.ids import is_id

SENTINEL_KEY = "__sentinel__"
# A tombstone has no value, so its version is in this header.
VERSION_HEADER = "version"
# The longest encrypted check text.
CHECK_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Sentinel:
    """Written after all other records: the topic's incarnation, and how many of its keys were live at that time.

    `check` is a text encrypted like the webhooks' secrets: a process that cannot decrypt it cannot sign.
    """

    incarnation: str
    live: int
    check: str | None = None

    def encode(self) -> bytes:
        fields = {"incarnation": self.incarnation, "live": self.live, "check": self.check}
        return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()

    @classmethod
    def decode(cls, value: bytes) -> "Sentinel":
        """Decode a sentinel. Raises `InvalidRecord` for anything else."""
        try:
            fields = json.loads(value)
            incarnation, live, check = fields["incarnation"], fields["live"], fields.get("check")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InvalidRecord(f"not a sentinel: {type(error).__name__}: {error}") from None
        if not is_id(incarnation) or type(live) is not int or live < 0:
            raise InvalidRecord("not a sentinel: incarnation must be an id, and live a number")
        if check is not None and not (isinstance(check, str) and check.isascii() and len(check) <= CHECK_CHARACTERS):
            raise InvalidRecord(f"not a sentinel: check must be an ASCII text of at most {CHECK_CHARACTERS} characters")
        return cls(incarnation, live, check)


def key_of(key: bytes | None) -> str:
    """The text of a record's key."""
    return (key or b"").decode(errors="replace")


class CompactedTable(Sized):
    """A table that is built record by record from the start of a compacted topic; its length counts the live keys.

    `position` is the next offset to read. `outdated_ids` are to be written again: on the topic they have an invalid
    record, or an older one than this process has read. `newer_release_ids` have a record of a newer release, which this
    release cannot read.
    """

    def __init__(self) -> None:
        self.sentinel: Sentinel | None = None
        self._deleted_since_sentinel = 0
        self.outdated_ids: set[str] = set()
        self.newer_release_ids: set[str] = set()
        self.position = 0

    @property
    def incarnation(self) -> str:
        return self.sentinel.incarnation if self.sentinel else ""

    def apply_sentinel(self, offset: int, sentinel: Sentinel) -> None:
        """Apply the sentinel's record."""
        self.position = offset + 1
        self.sentinel = sentinel
        self._deleted_since_sentinel = 0

    def skip_invalid(self, offset: int, key: str, *, is_newer_release: bool = False) -> None:
        """Skip a record of this key that is invalid, or of a newer release: the earlier value stays."""
        self.position = offset + 1
        self.outdated_ids.add(key)
        if is_newer_release:
            self.newer_release_ids.add(key)

    def skip(self, offset: int) -> None:
        """Move the position to `offset` + 1, past a record without a key or to the end of the partition."""
        self.position = max(self.position, offset + 1)

    def is_complete(self) -> bool:
        """Whether all keys that were live at the last sentinel are in the table, or were deleted since.

        False for an empty or re-created topic: a failed read is not "nothing there".
        """
        sentinel = self.sentinel
        return sentinel is not None and len(self) + self._deleted_since_sentinel >= sentinel.live

    def is_readable(self) -> bool:
        """Whether this release can read every record of the table."""
        return not self.newer_release_ids
