"""What is sealed is opened again by whoever has the key, and by nobody else."""

import json

import pytest

from fakes import FakeSealed
from streams.adapters.encryption import Sealing, generate_key
from streams.core.errors import InvalidRecord


@pytest.fixture(params=["fake", "fernet"])
def sealing(request: pytest.FixtureRequest) -> FakeSealed | Sealing:
    return FakeSealed() if request.param == "fake" else Sealing([generate_key()])


def test_a_secret_is_opened_as_it_was_sealed(sealing: FakeSealed | Sealing) -> None:
    sealed = sealing.seal("whsec_ä")
    assert sealed != "whsec_ä"
    assert sealing.secret(sealed) == sealing.secret(sealed) == "whsec_ä"


def test_headers_are_opened_as_they_were_sealed_and_none_are_none(sealing: FakeSealed | Sealing) -> None:
    sealed = sealing.seal(json.dumps({"Authorization": "Bearer abc"}))
    assert sealing.headers(sealed) == {"Authorization": "Bearer abc"}
    assert sealing.headers(None) == {}


def test_what_no_key_of_ours_sealed_is_unreadable(sealing: FakeSealed | Sealing) -> None:
    with pytest.raises(InvalidRecord):
        sealing.secret("strange")
    with pytest.raises(InvalidRecord):
        sealing.headers("strange")
