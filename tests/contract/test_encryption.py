"""What is sealed is opened again by whoever has the key, and by nobody else."""

import json

import pytest

from fakes import FakeEncryption
from streams.adapters.encryption import FernetEncryption, generate_key
from streams.core.errors import InvalidRecord


@pytest.fixture(params=["fake", "fernet"])
def encryption(request: pytest.FixtureRequest) -> FakeEncryption | FernetEncryption:
    return FakeEncryption() if request.param == "fake" else FernetEncryption([generate_key()])


def test_a_secret_is_opened_as_it_was_sealed(encryption: FakeEncryption | FernetEncryption) -> None:
    ciphertext = encryption.encrypt("whsec_ä")
    assert ciphertext != "whsec_ä"
    assert encryption.decrypt(ciphertext) == encryption.decrypt(ciphertext) == "whsec_ä"


def test_headers_are_opened_as_they_were_sealed_and_none_are_none(
    encryption: FakeEncryption | FernetEncryption,
) -> None:
    ciphertext = encryption.encrypt(json.dumps({"Authorization": "Bearer abc"}))
    assert encryption.decrypt_headers(ciphertext) == {"Authorization": "Bearer abc"}
    assert encryption.decrypt_headers(None) == {}


def test_what_no_key_of_ours_sealed_is_unreadable(encryption: FakeEncryption | FernetEncryption) -> None:
    with pytest.raises(InvalidRecord):
        encryption.decrypt("strange")
    with pytest.raises(InvalidRecord):
        encryption.decrypt_headers("strange")
