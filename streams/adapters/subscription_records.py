"""A record of `subscriptions`, applied to the table of webhooks."""

from datetime import timedelta

from streams.core.errors import Unreadable
from streams.core.view import SENTINEL_KEY, VERSION_HEADER, Sentinel, View
from streams.core.webhook import Webhook
from streams.ports import Codec, Record

# A version is the time of a change in milliseconds. One so far ahead of the broker's clock is nobody's of ours, and
# would outrank every later change.
FARTHEST_AHEAD = timedelta(days=1)


def key_of(record: Record) -> str:
    """The id of the webhook that the record is about, or the sentinel's key."""
    return (record.key or b"").decode(errors="replace")


def apply(view: View, codec: Codec, record: Record) -> None:
    """Put, remove or mark what the record says. Raises `Unreadable` for what `publish` does not write."""
    key = key_of(record)
    if key == SENTINEL_KEY:
        if record.value is None:
            raise Unreadable("a sentinel is never deleted")
        view.mark(record.offset, Sentinel.decode(record.value))
        return
    if record.value is None:
        view.remove(record.offset, key, _checked(_version(record), record))
        return
    webhook = codec.decode(record.value)
    if not isinstance(webhook, Webhook):
        raise Unreadable(f"a {type(webhook).__name__.lower()} is not a webhook")
    if webhook.id != key:
        raise Unreadable(f"its key is {key!r}, and the webhook in it is {webhook.id}")
    _checked(webhook.version, record)
    view.put(record.offset, webhook, record.appended_at)


def _version(record: Record) -> int:
    text = dict(record.headers).get(VERSION_HEADER, b"")
    if not text.isdigit() or len(text) > 19:
        raise Unreadable(f"a tombstone's version is a number, not {text[:40]!r}")
    return int(text)


def _checked(version: int, record: Record) -> int:
    latest = int((record.appended_at + FARTHEST_AHEAD).timestamp() * 1000)
    if not 0 < version <= latest:
        raise Unreadable(f"version {version} is not a time in milliseconds up to a day after the record's")
    return version
