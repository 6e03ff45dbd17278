"""What is stored of an invalid record is read back: the record as it was, its origin and its error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import NOON
from streams.core.errors import Invalid
from streams.core.records.invalid_record import StoredRecord, parse_record_id, stored_record
from streams.ports.kafka import Outgoing, Partition, Record
from streams.stages.invalid_records import TRUNCATED_BYTES, to_invalid_record, to_truncated_invalid_record

ADDED = ["origin-topic", "origin-partition", "origin-offset", "origin-appended-at", "error", "value-bytes"]
names = st.text(max_size=8) | st.sampled_from(ADDED)
records = st.builds(
    Record,
    st.builds(Partition, st.just("session-events"), st.integers(0, 100)),
    st.integers(0, 2**62),
    st.none() | st.binary(max_size=10),
    st.none() | st.binary(max_size=2 * TRUNCATED_BYTES),
    st.just(NOON),
    st.lists(st.tuples(names, st.binary(max_size=10)), max_size=8).map(tuple),
)


def read_back(stored: Outgoing) -> StoredRecord:
    return stored_record(3, 17, NOON, stored.key, stored.value, tuple(stored.headers))


@given(records)
def test_a_whole_record_is_read_back_as_it_was(record: Record) -> None:
    found = read_back(to_invalid_record(record, "no schema"))
    assert (found.id, found.stored_at, found.error, found.is_whole) == ("3-17", NOON, "no schema", True)
    assert (found.topic, found.partition, found.offset) == (*record.partition, record.offset)
    assert (found.key, found.value, found.headers) == (record.key, record.value, record.headers)
    assert found.value_bytes == len(record.value or b"")


@given(records)
def test_a_shortened_record_says_how_long_it_was(record: Record) -> None:
    found = read_back(to_truncated_invalid_record(record, "too large"))
    assert (found.error, found.is_whole, found.value_bytes) == ("too large", False, len(record.value or b""))
    assert (found.key, found.headers) == (None, ())
    assert found.value == (record.value or b"")[:TRUNCATED_BYTES]


def test_a_record_that_no_stage_stored_is_shown_too() -> None:
    found = stored_record(0, 0, NOON, b"k", b"v", [("error", b"mine")])
    assert (found.topic, found.partition, found.offset, found.error) == ("", -1, -1, "")
    assert found.headers == (("error", b"mine"),)


def test_an_id_names_a_place() -> None:
    assert parse_record_id("3-17") == (3, 17)


@pytest.mark.parametrize("text", ["", "3", "3-", "-1", "3-x", "3--1", "\u0663-1"])
def test_a_wrong_id_is_refused_in_words(text: str) -> None:
    with pytest.raises(Invalid, match="is not an id such as 0-17"):
        parse_record_id(text)
