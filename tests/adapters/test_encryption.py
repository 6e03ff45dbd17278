"""Fernet: nothing shows through, and keys can be rotated."""

import pytest

from streams.adapters.encryption import Sealing, generate_key
from streams.core.errors import InvalidRecord


def test_nothing_of_the_secret_shows_and_no_two_seals_are_alike() -> None:
    sealing = Sealing([generate_key()])
    first, second = sealing.seal("whsec_abc"), sealing.seal("whsec_abc")
    assert first != second
    assert "whsec" not in first


def test_a_new_key_in_front_seals_and_the_old_one_still_opens() -> None:
    old, new = generate_key(), generate_key()
    before, rotated = Sealing([old]), Sealing([new, old])
    assert rotated.secret(before.seal("whsec_old")) == "whsec_old"
    sealed = rotated.seal("whsec_new")
    assert Sealing([new]).secret(sealed) == "whsec_new"
    with pytest.raises(InvalidRecord):
        before.secret(sealed)
