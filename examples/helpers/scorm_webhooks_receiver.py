"""Verify, parse, and ignore repeats: what every receiver of webhooks needs, with the standard library alone."""

import base64
import binascii
import hmac
import json
import re
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Protocol, TypeGuard, TypeVar, cast

from scorm_webhooks_events import EVENT_TYPES, KnownEvent, UnknownEvent

Event = KnownEvent | UnknownEvent
Context = TypeVar("Context", covariant=True)

PLATFORM_HEADER = "X-AllureConnect-Signature"
SECRET_PREFIX = "whsec_"
# Stop reading a request that is larger, and respond with 413: anybody can send to your URL.
MAX_BODY_BYTES = 1024 * 1024
# Older requests are refused, so that a recorded one cannot be sent again. An event may be older: it was retried.
TOLERANCE_SECONDS = 300
MAX_SIGNATURES = 10
# A short or empty secret, such as from a missing setting, would let anybody sign.
MIN_KEY_BYTES = 24
# Events may be sent again while the platform keeps them, and a person may replay them.
KEEP_SECONDS = 90 * 24 * 60 * 60
_TIMESTAMP = re.compile(r"\d{1,12}", re.ASCII)


class InvalidSignature(Exception):
    """The request is not from your platform, or it is too old: respond with 401."""


class InvalidEvent(Exception):
    """A signed body is not an event: respond with 400."""


def verify_standard(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], now: float | None = None) -> None:
    """Verify a request by Standard Webhooks. `body` is the bytes as they came. Raises `InvalidSignature`.

    `secrets` are your secret, or the old and the new one during a rotation. One right signature is enough.
    """
    event_id, timestamp = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    if not event_id or not _TIMESTAMP.fullmatch(timestamp):
        raise InvalidSignature("webhook-id or webhook-timestamp is missing or not valid")
    if abs((time.time() if now is None else now) - int(timestamp)) > TOLERANCE_SECONDS:
        raise InvalidSignature("webhook-timestamp is more than five minutes away from this machine's clock")
    signed = f"{event_id}.{timestamp}.".encode() + body
    given = _header(headers, "webhook-signature").split(" ")[:MAX_SIGNATURES]
    keys = [key_of(secret) for secret in secrets]
    expected = ["v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    _require_match(given, expected, "webhook-signature")


def verify_platform(
    headers: Mapping[str, str], body: bytes, secrets: Iterable[str], header: str = PLATFORM_HEADER
) -> None:
    """Verify a request by the platform's own header. It has no time: prefer `verify_standard`.

    Raises `InvalidSignature`.
    """
    given = [_header(headers, name).lower() for name in (header, f"{header}-Next")]
    # This scheme's key is the whole secret, as it is shown.
    expected = [hmac.digest(secret.encode(), body, "sha256").hex() for secret in secrets if key_of(secret)]
    _require_match(given, expected, header)


def _require_match(given: Iterable[str], expected: Iterable[str], header: str) -> None:
    # Each pair is compared in constant time: the response time says nothing about the right signature.
    pairs = [(one.encode(), other.encode()) for one in given for other in expected]
    if not any(hmac.compare_digest(one, other) for one, other in pairs):
        raise InvalidSignature(f"{header} has no signature of this body by your secret")


def _header(headers: Mapping[str, str], name: str) -> str:
    """A header, ignoring the case of its name; empty if it is missing."""
    return next((value for key, value in headers.items() if key.lower() == name.lower()), "")


def key_of(secret: str) -> bytes:
    """The key in a signing secret. Raises ValueError: call it at the start of your program."""
    with suppress(binascii.Error, ValueError):
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        if len(key) >= MIN_KEY_BYTES:
            return key
    raise ValueError("the secret must be the webhook's signing secret: whsec_ and Base64 of 24 bytes or more")


def parse(body: bytes) -> Event:
    """Parse a verified body. Types and fields that you do not know stay as they are. Raises `InvalidEvent`."""
    try:
        event = json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InvalidEvent("the body must be JSON in UTF-8") from None
    if not isinstance(event, dict):
        raise InvalidEvent("the body must be a JSON object")
    for name, kind in (("id", str), ("type", str), ("createdAt", str), ("data", dict)):
        if not isinstance(event.get(name), kind):
            raise InvalidEvent(f"{name} must be {'an object' if kind is dict else 'a text'}")
    return cast("Event", event)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def is_known(event: Event) -> TypeGuard[KnownEvent]:
    """Whether the types describe this event: then `event["type"]` decides about `event["data"]`."""
    return event["type"] in EVENT_TYPES


class Repeats(Protocol[Context]):
    """Does the work of each event once, although an event may come several times."""

    def once(self, event_id: str, work: Callable[[Context], object]) -> bool:
        """Do the work, unless it was done before. Returns whether it was done now. Failed work may be repeated."""


class MemoryRepeats:
    """Remembers ids in memory. After a restart an event may be worked on again: for tests, and for idempotent work."""

    def __init__(self, max_ids: int = 100_000) -> None:
        self._max_ids = max_ids
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._lock = threading.Lock()

    def once(self, event_id: str, work: Callable[[None], object]) -> bool:
        """Do the work, unless this process did it before."""
        with self._lock:
            if event_id in self._ids:
                return False
            work(None)
            self._ids[event_id] = None
            if len(self._ids) > self._max_ids:
                self._ids.popitem(last=False)
            return True


class SqliteRepeats:
    """Remembers ids in SQLite. The id and the work are one transaction: a crash loses neither, and repeats neither.

    That holds for work in this database, by the connection that `work` gets. Several processes may share the file.
    """

    def __init__(self, path: str, keep_seconds: float = KEEP_SECONDS) -> None:
        self._keep_seconds = keep_seconds
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._database.executescript(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
            "CREATE TABLE IF NOT EXISTS seen_events (id TEXT PRIMARY KEY, seen_at REAL NOT NULL);"
            "CREATE INDEX IF NOT EXISTS seen_events_by_time ON seen_events (seen_at);"
        )

    def once(self, event_id: str, work: Callable[[sqlite3.Connection], object]) -> bool:
        """Do the work, unless it was committed before. `work` must not commit."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                is_new = self._remember(event_id, time.time())
                if is_new:
                    work(self._database)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            return is_new

    def _remember(self, event_id: str, now: float) -> bool:
        self._database.execute("DELETE FROM seen_events WHERE seen_at < ?", (now - self._keep_seconds,))
        statement = "INSERT INTO seen_events VALUES (?, ?) ON CONFLICT DO NOTHING"
        return self._database.execute(statement, (event_id, now)).rowcount == 1

    def close(self) -> None:
        self._database.close()
