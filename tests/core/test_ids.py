"""Ids are opaque; a derived id is the same in every process."""

import hashlib
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from builders import attempt, delivery
from streams.core.ids import attempt_id, delivery_id, derived_id, is_id

ids = st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True)
names = st.tuples(ids, ids, ids)


def test_derived_ids_never_change() -> None:
    owed = delivery_id("acme", "evt_1", "wh_crm")
    assert owed == "897326b4-273b-533e-baca-7858d8ee9bf1"
    assert attempt_id(owed, 1, 1) == "6344bbcf-4f2a-5a68-9110-c8701764ffb1"


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_a_derived_id_is_a_ulid(parts: list[str]) -> None:
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    assert derived_id("evt", *parts) == f"evt_{ULID.from_bytes(digest[:16])}"


@given(names, names)
def test_a_delivery_id_depends_on_account_event_and_webhook(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    assert (delivery_id(*one) == delivery_id(*other)) == (one == other)


@given(names)
def test_a_delivery_id_is_a_uuid_of_version_5(named: tuple[str, str, str]) -> None:
    assert delivery_id(*named) == str(uuid5(UUID("6b1d3f0e-6c0f-5d58-9e0a-6a7b4c0f4a11"), "/".join(named)))


def test_a_delivery_and_its_attempt_agree_on_their_ids() -> None:
    assert attempt().delivery_id == delivery().id
    assert attempt().id == delivery().attempt_id


def test_each_attempt_of_each_generation_has_its_own_id() -> None:
    made = [attempt_id(delivery().id, generation, number) for generation in (1, 2) for number in (1, 2, 3)]
    assert len(set(made)) == 6


@pytest.mark.parametrize("value", ["evt_01HYX9K2", "a", "A:b-c_9", "x" * 128])
def test_an_id_has_letters_digits_and_three_other_characters(value: str) -> None:
    assert is_id(value)


@pytest.mark.parametrize("value", ["", "x" * 129, "a.b", "a b", "ä", "a\n", "a/b", None, 7])
def test_other_values_are_not_ids(value: object) -> None:
    assert not is_id(value)
