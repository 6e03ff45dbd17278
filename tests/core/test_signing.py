"""The customer's check and the official verifiers accept our signatures."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st

from builders import NEW_SECRET, SECRET
from streams.core.deliveries.signing import make_secret, sign_platform, sign_standard

MESSAGE_ID, TIMESTAMP, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'

keys = st.binary(min_size=24, max_size=64)
ids = st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True)
documents = st.dictionaries(st.text(), st.integers() | st.text() | st.none(), max_size=4)
VERIFIERS = [standardwebhooks.Webhook, svix.Webhook]
Verifier = type[standardwebhooks.Webhook] | type[svix.Webhook]


def test_the_signature_matches_the_standard_webhooks_vector() -> None:
    assert sign_standard(SECRET, MESSAGE_ID, TIMESTAMP, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("verifier", VERIFIERS)
@given(keys, ids, documents)
def test_the_official_verifiers_accept_our_signature(
    verifier: Verifier, key: bytes, message_id: str, document: dict[str, object]
) -> None:
    secret, body, now = make_secret(key), json.dumps(document).encode(), int(datetime.now(UTC).timestamp())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign_standard(secret, message_id, now, body),
    }
    verifier(secret).verify(body, headers)


@pytest.mark.parametrize("verifier", VERIFIERS)
def test_during_a_rotation_either_secret_verifies(verifier: Verifier) -> None:
    now = int(datetime.now(UTC).timestamp())
    signatures = [sign_standard(secret, MESSAGE_ID, now, BODY) for secret in (SECRET, NEW_SECRET)]
    headers = {
        "webhook-id": MESSAGE_ID,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signatures),
    }
    for secret in (SECRET, NEW_SECRET):
        verifier(secret).verify(BODY, headers)


@given(keys, st.binary())
def test_the_customers_check_accepts_our_signature(key: bytes, body: bytes) -> None:
    secret = make_secret(key)
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(sign_platform(secret, body), expected)


@given(keys, ids, st.binary(), st.binary())
def test_another_body_has_another_signature(key: bytes, message_id: str, body: bytes, other: bytes) -> None:
    secret = make_secret(key)
    same = body == other
    assert (sign_platform(secret, body) == sign_platform(secret, other)) is same
    signatures = [sign_standard(secret, message_id, TIMESTAMP, signed) for signed in (body, other)]
    assert (signatures[0] == signatures[1]) is same


@given(keys)
def test_a_secret_contains_its_key(key: bytes) -> None:
    assert base64.b64decode(make_secret(key).removeprefix("whsec_"), validate=True) == key


@pytest.mark.parametrize("length", [0, 23, 65])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes"):
        make_secret(b"k" * length)
