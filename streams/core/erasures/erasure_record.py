"""Encode and decode records of `erasures`: when learners were erased, and the keys of their hashes."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from streams.core.erasures.erasure import ErasedLearner
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel, key_of
from streams.core.times import from_microseconds, to_microseconds

# An account's id has no slash, and an erasure's key always has one.
_ERASURE_KEY = re.compile(r"([A-Za-z0-9_:-]{1,128})/([0-9a-f]{64})")
_HASH_KEY = re.compile(r"key:([0-9a-f]{16})")
# The end of the year 9899.
_MAX_MICROSECONDS = 250_240_924_799_999_999
_ERASURE_TYPES = {"erasedAt": int, "hashKeyId": str}
_HASH_KEY_TYPES = {"ciphertext": str}


class HashKey(NamedTuple):
    """An encrypted key for the hashes of learners; without a ciphertext the key is forgotten."""

    id: str
    ciphertext: str | None


class ErasureTombstone(NamedTuple):
    """The end of an erasure: no topic has data from before `erased_at` any more."""

    account_id: str
    learner_hash: str
    erased_at: datetime


def erasure_key(account_id: str, learner_hash: str) -> str:
    """The key of an erasure's record."""
    return f"{account_id}/{learner_hash}"


def parse_erasure_key(key: str) -> tuple[str, str] | None:
    """The account and the learner's hash in a record's key; None for another record's key."""
    match = _ERASURE_KEY.fullmatch(key)
    return (match[1], match[2]) if match else None


def hash_key_key(hash_key_id: str) -> str:
    """The key of the record of a hash key."""
    return f"key:{hash_key_id}"


def parse_hash_key_key(key: str) -> str | None:
    """The id of the hash key in a record's key; None for another record's key."""
    match = _HASH_KEY.fullmatch(key)
    return match[1] if match else None


def encode_erasure(erased: ErasedLearner) -> bytes:
    return json.dumps({"erasedAt": to_microseconds(erased.erased_at), "hashKeyId": erased.hash_key_id}).encode()


def encode_hash_key(ciphertext: str) -> bytes:
    return json.dumps({"ciphertext": ciphertext}).encode()


def encode_version(erased_at: datetime) -> tuple[str, bytes]:
    """The header of a tombstone, which protects a later erasure of the same learner."""
    return VERSION_HEADER, str(to_microseconds(erased_at)).encode()


def decode_erasure_record(
    key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
) -> Sentinel | ErasedLearner | ErasureTombstone | HashKey:
    """Decode a record. Raises `NewerRecord`, and `InvalidRecord` for anything that `publish` does not write."""
    name = key_of(key)
    if name == SENTINEL_KEY:
        if value is None:
            raise InvalidRecord("a sentinel is never deleted")
        return Sentinel.decode(value)
    if (learner := parse_erasure_key(name)) is not None:
        if value is None:
            return ErasureTombstone(*learner, _to_time(_version(dict(headers))))
        erased_at, hash_key_id = _fields(value, _ERASURE_TYPES)
        return ErasedLearner(*learner, hash_key_id, _to_time(erased_at))
    if (hash_key_id := parse_hash_key_key(name)) is not None:
        return HashKey(hash_key_id, None if value is None else _fields(value, _HASH_KEY_TYPES)[0])
    raise InvalidRecord(f"{name[:200]!r} is the key of no erasure")


def _fields(value: bytes, types: Mapping[str, type]) -> list[Any]:
    """The values of these fields, in their order. A record of a newer release may have more."""
    try:
        fields = json.loads(value.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidRecord(f"not JSON: {error}") from None
    if not isinstance(fields, dict) or [type(fields.get(name)) for name in types] != [*types.values()]:
        raise InvalidRecord(f"its fields are {', '.join(types)}")
    if len(fields) != len(types):
        raise NewerRecord(f"it has more fields than {', '.join(types)}")
    return [fields[name] for name in types]


def _version(headers: Mapping[str, bytes]) -> int:
    text = headers.get(VERSION_HEADER, b"")
    if not text.isdigit() or len(text) > 19:
        raise InvalidRecord(f"a tombstone's version is a number, not {text[:40]!r}")
    return int(text)


def _to_time(microseconds: int) -> datetime:
    if not 0 < microseconds <= _MAX_MICROSECONDS:
        raise InvalidRecord(f"{microseconds} is not a time in microseconds")
    return from_microseconds(microseconds)
