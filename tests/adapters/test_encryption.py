"""Fernet hides secrets, and its keys can be rotated."""

import pytest

from streams.adapters.encryption import MAX_CACHED_CHARACTERS, FernetEncryption, generate_key
from streams.core.errors import InvalidRecord


def test_a_ciphertext_is_unique_and_hides_the_secret() -> None:
    encryption = FernetEncryption([generate_key()])
    first, second = encryption.encrypt("whsec_abc"), encryption.encrypt("whsec_abc")
    assert first != second
    assert "whsec" not in first


def test_the_first_key_encrypts_and_every_key_decrypts() -> None:
    old, new = generate_key(), generate_key()
    before, rotated = FernetEncryption([old]), FernetEncryption([new, old])
    assert rotated.decrypt(before.encrypt("whsec_old")) == "whsec_old"
    ciphertext = rotated.encrypt("whsec_new")
    assert FernetEncryption([new]).decrypt(ciphertext) == "whsec_new"
    with pytest.raises(InvalidRecord):
        before.decrypt(ciphertext)


def test_only_short_texts_stay_in_memory() -> None:
    encryption = FernetEncryption([generate_key()])
    long, short = "x" * MAX_CACHED_CHARACTERS, "whsec_abc"
    for text in (long, short):
        assert encryption.decrypt(encryption.encrypt(text)) == text
    assert encryption._decrypt_cached.cache_info().currsize == 1
