"""Only a process with the key can decrypt."""

import json

import pytest

from fakes import FakeEncryption
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.core.errors import InvalidRecord


@pytest.fixture(params=["fake", "fernet"])
def encryption(request: pytest.FixtureRequest) -> FakeEncryption | FernetEncryption:
    return FakeEncryption() if request.param == "fake" else FernetEncryption([generate_key()])


def test_a_secret_is_decrypted_as_it_was_encrypted(encryption: FakeEncryption | FernetEncryption) -> None:
    ciphertext = encryption.encrypt("whsec_ä")
    assert ciphertext != "whsec_ä"
    assert encryption.decrypt(ciphertext) == encryption.decrypt(ciphertext) == "whsec_ä"


def test_headers_are_decrypted_as_they_were_encrypted(
    encryption: FakeEncryption | FernetEncryption,
) -> None:
    ciphertext = encryption.encrypt(json.dumps({"Authorization": "Bearer abc"}))
    assert encryption.decrypt_headers(ciphertext) == {"Authorization": "Bearer abc"}
    assert encryption.decrypt_headers(None) == {}


def test_a_ciphertext_of_an_unknown_key_is_invalid(encryption: FakeEncryption | FernetEncryption) -> None:
    with pytest.raises(InvalidRecord):
        encryption.decrypt("strange")
    with pytest.raises(InvalidRecord):
        encryption.decrypt_headers("strange")
