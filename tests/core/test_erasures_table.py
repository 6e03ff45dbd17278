"""The table of erasures: which learner was erased when, what it waits for, and records that it refuses."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from fakes import FakeEncryption
from streams.core.erasures.erasure import ErasedLearner, hash_key_id, key_to_text, learner_hash
from streams.core.erasures.erasure_record import (
    ErasureTombstone,
    HashKey,
    decode_erasure_record,
    encode_erasure,
    encode_version,
    erasure_key,
    hash_key_key,
)
from streams.core.erasures.erasures_table import ErasuresTable, _TimesByHash
from streams.core.errors import InvalidRecord, NewerRecord
from streams.core.records.compacted_table import SENTINEL_KEY, VERSION_HEADER, Sentinel

KEY, OTHER_KEY = b"k" * 32, b"o" * 32
SECOND = timedelta(seconds=1)


def hash_key(secret: bytes = KEY) -> HashKey:
    return HashKey(hash_key_id(secret), FakeEncryption().encrypt(key_to_text(secret)))


def erased(learner: str = "ada", at: datetime = NOON, secret: bytes = KEY) -> ErasedLearner:
    return ErasedLearner("acme", learner_hash(secret, "acme", learner).hex(), hash_key_id(secret), at)


def table_of(*records: ErasedLearner | ErasureTombstone | HashKey | Sentinel) -> ErasuresTable:
    table = ErasuresTable(FakeEncryption().decrypt)
    for offset, one in enumerate(records):
        match one:
            case HashKey():
                table.apply_hash_key(offset, one)
            case ErasedLearner():
                table.apply_erasure(offset, one)
            case ErasureTombstone():
                table.apply_tombstone(offset, one)
            case Sentinel():
                table.apply_sentinel(offset, one)
    return table


def tombstone(one: ErasedLearner) -> ErasureTombstone:
    return ErasureTombstone(one.account_id, one.learner_hash, one.erased_at)


# -- the table -------------------------------------------------------------------------------------------------------


def test_a_later_erasure_replaces_an_earlier_one() -> None:
    table = table_of(hash_key(), erased(), erased(at=NOON + SECOND))
    assert table.erased_at("acme", "ada") == NOON + SECOND
    assert (len(table), table.outdated_ids, table.position) == (1, set(), 3)


@pytest.mark.parametrize("late", [erased(), tombstone(erased())])
def test_an_older_record_changes_nothing_and_is_outdated(late: ErasedLearner | ErasureTombstone) -> None:
    table = table_of(hash_key(), erased(at=NOON + SECOND), late)
    assert table.erased_at("acme", "ada") == NOON + SECOND
    assert table.outdated_ids == {erasure_key("acme", late.learner_hash)}


def test_a_tombstone_forgets_one_learner() -> None:
    table = table_of(hash_key(), erased(), erased("grace"), tombstone(erased()), tombstone(erased("alan")))
    assert table.erased_at("acme", "ada") is None
    assert table.erased_at("acme", "grace") == NOON
    assert len(table) == 1


def test_a_learner_is_known_by_each_key_and_the_latest_time() -> None:
    table = table_of(hash_key(), hash_key(OTHER_KEY), erased(), erased(at=NOON + SECOND, secret=OTHER_KEY))
    assert table.erased_at("acme", "ada") == NOON + SECOND


def test_only_accounts_with_erasures_are_looked_up() -> None:
    table = table_of(hash_key(), erased())
    assert table.has_erasures("acme")
    others = [f"account-{number}" for number in range(1000)]
    assert sum(table.has_erasures(account) for account in others) < 10


def test_the_table_is_complete_with_what_the_sentinel_counts() -> None:
    assert not table_of(hash_key(), erased()).is_complete()
    assert not table_of(hash_key(), erased(), Sentinel("one", 2)).is_complete()
    assert not table_of(hash_key(), erased(), erased(), Sentinel("one", 2)).is_complete()
    assert table_of(hash_key(), erased(), erased("grace"), Sentinel("one", 2)).is_complete()


def test_without_a_key_the_table_is_not_readable() -> None:
    locked = HashKey(hash_key_id(KEY), "of another")
    assert not table_of(erased()).is_readable()
    assert not table_of(locked).is_readable()
    assert not table_of(hash_key(), locked).is_readable()
    assert table_of(locked).undecryptable_key_ids == {hash_key_id(KEY)}
    assert table_of(locked, hash_key(), erased()).is_readable()
    assert table_of().is_readable()


def test_a_key_is_forgotten_after_its_erasures() -> None:
    forgotten = HashKey(hash_key_id(KEY), None)
    table = table_of(hash_key(), erased(), tombstone(erased()), forgotten)
    assert table.is_readable()
    assert table.ciphertexts == {}


def test_a_key_of_another_id_is_refused() -> None:
    with pytest.raises(InvalidRecord, match="is not the key"):
        table_of(HashKey(hash_key_id(OTHER_KEY), hash_key().ciphertext))


def test_a_newer_record_is_waited_for() -> None:
    table = table_of(hash_key(), erased(), Sentinel("one", 1))
    table.skip_invalid(3, "key:0", is_newer_release=True)
    assert not table.is_readable()


HASHES = st.integers(0, 40).map(lambda number: bytes([0, number % 3]) + bytes([number]) * 30)


@given(st.lists(st.tuples(HASHES, st.integers(0, 2**63))))
def test_packed_times_are_those_of_a_dict(puts: list[tuple[bytes, int]]) -> None:
    times, expected = _TimesByHash(), dict[bytes, int]()
    for digest, time in puts:
        if time % 3 == 0:
            times.pop(digest)
            expected.pop(digest, None)
        else:
            times.pop(digest)
            times.put(digest, time)
            expected[digest] = time
        assert len(times) == len(expected)
    for digest, _ in puts:
        assert times.get(digest) == expected.get(digest, 0)


def test_a_hash_within_two_entries_is_not_found() -> None:
    times = _TimesByHash()
    # The time of the first and the beginning of the second look like a third hash.
    times.put(bytes(2) + b"a" * 30, int.from_bytes(b"abcdefgh"))
    times.put(bytes(2) + b"ijklmnop" + b"b" * 22, 5)
    assert times.get(bytes(2) + b"abcdefghijklmnop" + b"c" * 14) == 0
    times.pop(bytes(2) + b"abcdefghijklmnop" + b"c" * 14)
    assert len(times) == 2


# -- records -----------------------------------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written() -> None:
    one = erased(at=datetime(2026, 11, 30, 1, 2, 3, 456789, UTC))
    name = erasure_key(one.account_id, one.learner_hash).encode()
    assert decode_erasure_record(name, encode_erasure(one), ()) == one
    assert decode_erasure_record(name, None, [encode_version(one.erased_at)]) == tombstone(one)
    assert decode_erasure_record(SENTINEL_KEY.encode(), Sentinel("one", 1).encode(), ()) == Sentinel("one", 1)
    assert decode_erasure_record(b"key:" + b"0" * 16, None, ()) == HashKey("0" * 16, None)


NAME = erasure_key("acme", "0" * 64).encode()
HASH_KEY_NAME = hash_key_key("0" * 16).encode()


@pytest.mark.parametrize(
    ("name", "value", "version"),
    [
        (None, b"{}", b""),
        (b"", b"{}", b""),
        (b"\xff/" + b"0" * 64, b"{}", b""),
        (b"acme/" + b"0" * 63, b"{}", b""),
        (b"acme/" + b"G" * 64, b"{}", b""),
        (b"a" * 129 + b"/" + b"0" * 64, b"{}", b""),
        (NAME + b"\n", b"{}", b""),
        (NAME, b"", b""),
        (NAME, b"nonsense", b""),
        (NAME, b"\xff", b""),
        (NAME, b"[" * 100_000, b""),
        (NAME, b"[]", b""),
        (NAME, b"{}", b""),
        (NAME, b'{"erasedAt": "1", "hashKeyId": "0"}', b""),
        (NAME, b'{"erasedAt": 1.5, "hashKeyId": "0"}', b""),
        (NAME, b'{"erasedAt": true, "hashKeyId": "0"}', b""),
        (NAME, b'{"erasedAt": 0, "hashKeyId": "0"}', b""),
        (NAME, b'{"erasedAt": 1' + b"0" * 30 + b', "hashKeyId": "0"}', b""),
        (NAME, None, b""),
        (NAME, None, b"-1"),
        (NAME, None, b"9" * 30),
        (HASH_KEY_NAME, b"{}", b""),
        (HASH_KEY_NAME, b'{"ciphertext": 5}', b""),
        (b"key:0", b'{"ciphertext": "x"}', b""),
        (SENTINEL_KEY.encode(), None, b""),
        (SENTINEL_KEY.encode(), b"{}", b""),
    ],
)
def test_a_record_that_publish_does_not_write_is_refused(
    name: bytes | None, value: bytes | None, version: bytes
) -> None:
    with pytest.raises(InvalidRecord):
        decode_erasure_record(name, value, [(VERSION_HEADER, version)])


def test_a_record_with_more_fields_is_of_a_newer_release() -> None:
    with pytest.raises(NewerRecord):
        decode_erasure_record(NAME, b'{"erasedAt": 1, "hashKeyId": "0", "reason": "x"}', ())
