"""Fernet: nothing shows through, and keys can be rotated."""

import pytest

from streams.adapters.encryption import FernetEncryption, generate_key
from streams.core.errors import InvalidRecord


def test_nothing_of_the_secret_shows_and_no_two_seals_are_alike() -> None:
    encryption = FernetEncryption([generate_key()])
    first, second = encryption.encrypt("whsec_abc"), encryption.encrypt("whsec_abc")
    assert first != second
    assert "whsec" not in first


def test_a_new_key_in_front_seals_and_the_old_one_still_opens() -> None:
    old, new = generate_key(), generate_key()
    before, rotated = FernetEncryption([old]), FernetEncryption([new, old])
    assert rotated.decrypt(before.encrypt("whsec_old")) == "whsec_old"
    ciphertext = rotated.encrypt("whsec_new")
    assert FernetEncryption([new]).decrypt(ciphertext) == "whsec_new"
    with pytest.raises(InvalidRecord):
        before.decrypt(ciphertext)
