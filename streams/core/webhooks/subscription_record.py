"""Decode and check records of `subscriptions`; `publish` checks its own records before it writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from streams.core.errors import InvalidRecord
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel, key_of
from streams.core.webhooks.webhook import Webhook

# A version is the time of a change in ms. A version this far ahead is wrong: it would hide every later change.
MAX_VERSION_AHEAD = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The deletion of a webhook, with its version."""

    webhook_id: str
    version: int


def max_version(at: datetime) -> int:
    """The newest version that a record appended at this time may have."""
    return int((at + MAX_VERSION_AHEAD).timestamp() * 1000)


def decode_record(
    key: bytes | None,
    value: bytes | None,
    headers: Sequence[tuple[str, bytes]],
    appended_at: datetime,
    decode: Callable[[bytes], object],
) -> Sentinel | Tombstone | Webhook:
    """Decode a record. Raises `InvalidRecord` for anything that `publish` does not write."""
    name = key_of(key)
    if name == SENTINEL_KEY:
        if value is None:
            raise InvalidRecord("a sentinel is never deleted")
        return Sentinel.decode(value)
    if value is None:
        version = _version(dict(headers))
        _check_version(version, appended_at)
        return Tombstone(name, version)
    webhook = decode(value)
    if not isinstance(webhook, Webhook):
        raise InvalidRecord(f"a {type(webhook).__name__.lower()} is not a webhook")
    if webhook.id != name:
        raise InvalidRecord(f"its key is {name!r}, and the webhook in it is {webhook.id}")
    _check_version(webhook.version, appended_at)
    return webhook


def _version(headers: Mapping[str, bytes]) -> int:
    text = headers.get(VERSION_HEADER, b"")
    if not text.isdigit() or len(text) > 19:
        raise InvalidRecord(f"a tombstone's version is a number, not {text[:40]!r}")
    return int(text)


def _check_version(version: int, appended_at: datetime) -> None:
    if not 0 < version <= max_version(appended_at):
        raise InvalidRecord(f"version {version} is not a time in milliseconds up to a day after the record's")
