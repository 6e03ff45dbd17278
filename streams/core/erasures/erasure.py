"""Erasures: which data of a learner is erased, and which records that arrive later belong to it."""

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any, NamedTuple

from streams.core.deliveries.attempt import Attempt
from streams.core.deliveries.request import MASK
from streams.core.errors import InvalidRecord
from streams.core.times import parse_time

# The reason of a delivery whose learner was erased. It is never sent again.
ERASED_REASON = "erased"
ERASED_MESSAGE = "Its learner was erased."
HASH_KEY_BYTES = 32


class ErasedKind(StrEnum):
    """The kinds that an erasure counts. `DISCARDED` counts the deliveries that were owed or dead."""

    EVENTS = "events"
    DELIVERIES = "deliveries"
    DISCARDED = "discarded"
    ATTEMPTS = "attempts"
    SESSIONS = "sessions"
    RESPONSES = "responses"
    MAILS = "mails"
    WEBHOOKS = "webhooks"
    AUDIT_ENTRIES = "auditEntries"


@dataclass(frozen=True, slots=True)
class Erasure:
    """One request to erase a learner. `erased_at` separates the data that it erases from the learner's new data."""

    id: str
    account_id: str
    learner_hash: str
    erased_at: datetime
    created_at: datetime
    actor: str
    counts: Mapping[str, int] = field(default_factory=dict)
    finished_at: datetime | None = None

    @property
    def is_finished(self) -> bool:
        return self.finished_at is not None

    @property
    def erased(self) -> Mapping[str, int]:
        """How many rows of each kind are erased."""
        return {str(kind): self.counts.get(kind, 0) for kind in ErasedKind}


class ErasedLearner(NamedTuple):
    """An erased learner, identified by the hash under one key. All data until `erased_at` is erased."""

    account_id: str
    learner_hash: str
    hash_key_id: str
    erased_at: datetime


class HashedLearner(NamedTuple):
    """A learner's keyed hash, and the id of its key."""

    hash_key_id: str
    learner_hash: str


def learner_hash(key: bytes, account_id: str, learner_id: str) -> bytes:
    """The keyed hash by which erased learners are recognized. Without the key, nobody can guess an id from it."""
    return hmac.digest(key, f"{account_id}\0{learner_id}".encode(), "sha256")


def hash_key_id(key: bytes) -> str:
    """The id of a key of these hashes. Restored databases may have different keys."""
    return sha256(key).hexdigest()[:16]


def key_to_text(key: bytes) -> str:
    """A key as the text that is encrypted."""
    return base64.b64encode(key).decode()


def key_from_text(text: str) -> bytes:
    """Parse the text of a key. Raises `InvalidRecord`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRecord("not a key of hashes of learners") from None


def is_erased(erased_at: datetime | None, first_seen_at: datetime, body: bytes) -> bool:
    """Whether an event of an erased learner is erased too, because it was seen or happened before the erasure.

    An event that happened later is new data. One that happened earlier is erased whenever it arrives, because an old
    record that is published again gets a new time from the broker.
    """
    if erased_at is None:
        return False
    occurred_at = _occurred_at(body)
    return first_seen_at <= erased_at or (occurred_at is not None and occurred_at <= erased_at)


def erase_response(attempt: Attempt) -> Attempt:
    """The attempt without the endpoint's response."""
    return attempt._replace(response_headers={}, response_body=b"", message=ERASED_MESSAGE)


def _occurred_at(body: bytes) -> datetime | None:
    try:
        return parse_time(json.loads(body)["createdAt"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


# -- texts that name a learner -------------------------------------------------------------------------------------

# An id must not match inside a longer one: "42" is not in "evt_42", "14:42:00" or "42@example.com".
_ID_START, _ID_END = r"(?<![\w@.:+%-])", r"(?![\w@+%-]|[.:]\w)"


def mask_learner(value: Any, learner_id: str) -> Any:
    """JSON in which the learner's id is masked, wherever a text is or contains it as a whole word."""
    word = re.search(r"\w", learner_id)
    return _mask(value, learner_id, re.compile(_ID_START + re.escape(learner_id) + _ID_END) if word else None)


def _mask(value: Any, learner_id: str, pattern: re.Pattern[str] | None) -> Any:
    if isinstance(value, Mapping):
        return {name: _mask(item, learner_id, pattern) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_mask(item, learner_id, pattern) for item in value]
    if not isinstance(value, str):
        return value
    if value == learner_id:
        return MASK
    return pattern.sub(MASK, value) if pattern else value
