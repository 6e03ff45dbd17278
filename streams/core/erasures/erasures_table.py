"""The erasures of the compacted topic `erasures`, in little memory."""

from collections.abc import Callable, Collection
from datetime import datetime

from streams.core.erasures.erasure import ErasedLearner, hash_key_id, key_from_text, learner_hash
from streams.core.erasures.erasure_record import ErasureTombstone, HashKey, erasure_key, hash_key_key
from streams.core.errors import InvalidRecord
from streams.core.records.compacted_table import CompactedTable
from streams.core.times import from_microseconds, to_microseconds

# One mark for each hash of an account's id: a delivery of an account without erasures costs one look-up.
_ACCOUNT_MARKS = 2**20
_BUCKETS = 2**16
# Sixteen bytes of a hash after those that choose the bucket: no two learners share them.
_DIGEST = slice(2, 18)
_DIGEST_BYTES = 16
_TIME_BYTES = 8
_ENTRY_BYTES = _DIGEST_BYTES + _TIME_BYTES


class _TimesByHash:
    """Times in microseconds by hash, 24 bytes each. A dict would take six times as much."""

    def __init__(self) -> None:
        self._buckets = [b""] * _BUCKETS
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, digest: bytes) -> int:
        """The time of a hash; 0 if it has none."""
        bucket = self._buckets[_bucket_of(digest)]
        place = _find(bucket, digest)
        return 0 if place < 0 else int.from_bytes(bucket[place + _DIGEST_BYTES : place + _ENTRY_BYTES])

    def put(self, digest: bytes, time: int) -> None:
        """Store the time of a hash that has none."""
        self._buckets[_bucket_of(digest)] += digest[_DIGEST] + time.to_bytes(_TIME_BYTES)
        self._count += 1

    def pop(self, digest: bytes) -> None:
        """Remove the time of a hash, if it has one."""
        number = _bucket_of(digest)
        bucket = self._buckets[number]
        place = _find(bucket, digest)
        if place >= 0:
            self._buckets[number] = bucket[:place] + bucket[place + _ENTRY_BYTES :]
            self._count -= 1


def _bucket_of(digest: bytes) -> int:
    return digest[0] << 8 | digest[1]


def _find(bucket: bytes, digest: bytes) -> int:
    """The start of a hash's entry; -1 if it has none."""
    wanted = digest[_DIGEST]
    place = bucket.find(wanted)
    while place >= 0 and place % _ENTRY_BYTES:
        place = bucket.find(wanted, place + 1)
    return place


class ErasuresTable(CompactedTable):
    """When each learner was last erased, by the keyed hash of account and learner.

    After a restore of SQL several keys are live, and a learner is looked up under each of them. `decrypt` decrypts
    the stored hash keys.
    """

    def __init__(self, decrypt: Callable[[str], str]) -> None:
        super().__init__()
        self._decrypt = decrypt
        self._times = _TimesByHash()
        self._account_marks = bytearray(_ACCOUNT_MARKS)
        self._hash_keys: dict[str, bytes] = {}
        self._used_key_ids: set[str] = set()
        self.ciphertexts: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._times)

    @property
    def undecryptable_key_ids(self) -> Collection[str]:
        """The hash keys that no encryption key of this process decrypts."""
        return self.ciphertexts.keys() - self._hash_keys.keys()

    def is_readable(self) -> bool:
        return super().is_readable() and self._used_key_ids <= self._hash_keys.keys() >= self.ciphertexts.keys()

    def erased_at(self, account_id: str, learner_id: str) -> datetime | None:
        """When the learner was last erased; None if never."""
        newest = max(
            (self._times.get(learner_hash(key, account_id, learner_id)) for key in self._hash_keys.values()), default=0
        )
        return from_microseconds(newest) if newest else None

    def has_erasures(self, account_id: str) -> bool:
        """Whether a learner of the account may have been erased. A false positive is rare, and costs one hash."""
        return bool(self._account_marks[hash(account_id) % _ACCOUNT_MARKS])

    def time_of(self, hashed_learner: bytes) -> datetime | None:
        """When the learner of this hash was erased."""
        microseconds = self._times.get(hashed_learner)
        return from_microseconds(microseconds) if microseconds else None

    def apply_hash_key(self, offset: int, hash_key: HashKey) -> None:
        """Apply a key, or its end. Raises `InvalidRecord` if the key does not match its id."""
        self._note_read(offset, hash_key_key(hash_key.id))
        if hash_key.ciphertext is None:
            for known in (self._hash_keys, self.ciphertexts):
                known.pop(hash_key.id, None)
            self._used_key_ids.discard(hash_key.id)
            return
        try:
            key = key_from_text(self._decrypt(hash_key.ciphertext))
        except InvalidRecord:
            self._hash_keys.pop(hash_key.id, None)
        else:
            if hash_key_id(key) != hash_key.id:
                raise InvalidRecord(f"it is not the key {hash_key.id}")
            self._hash_keys[hash_key.id] = key
        self.ciphertexts[hash_key.id] = hash_key.ciphertext

    def apply_erasure(self, offset: int, erased: ErasedLearner) -> None:
        """Apply an erasure. An older one is ignored, and the newest must be written again."""
        name, digest = erasure_key(erased.account_id, erased.learner_hash), bytes.fromhex(erased.learner_hash)
        self._note_read(offset, name)
        self._used_key_ids.add(erased.hash_key_id)
        self._account_marks[hash(erased.account_id) % _ACCOUNT_MARKS] = 1
        time, newest = to_microseconds(erased.erased_at), self._times.get(digest)
        if time < newest:
            self.outdated_ids.add(name)
        elif time > newest:
            if newest:
                self._times.pop(digest)
            self._times.put(digest, time)

    def apply_tombstone(self, offset: int, tombstone: ErasureTombstone) -> None:
        """Forget an erasure, unless the learner has a later one."""
        name, digest = erasure_key(tombstone.account_id, tombstone.learner_hash), bytes.fromhex(tombstone.learner_hash)
        self._note_read(offset, name)
        time = self._times.get(digest)
        if time > to_microseconds(tombstone.erased_at):
            self.outdated_ids.add(name)
        else:
            # The sentinel before this tombstone no longer counts the erasure.
            self._times.pop(digest)

    def _note_read(self, offset: int, key: str) -> None:
        self.position = offset + 1
        self.outdated_ids.discard(key)
        self.newer_release_ids.discard(key)
