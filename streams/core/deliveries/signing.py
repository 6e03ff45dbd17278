"""Signatures of a body: the platform's own scheme, and Standard Webhooks 1.0.0."""

import base64
import hmac
from functools import lru_cache

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret(key: bytes) -> str:
    """Format a secret for the customer: `whsec_` and Base64 of 24 to 64 random bytes (Standard Webhooks 1.0.0)."""
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a signing key has 24 to 64 bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def parse_secret(text: str) -> str:
    """The secret of a text, as `make_secret` writes it. Raises ValueError for anything else."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"must begin with {SECRET_PREFIX}")
    return make_secret(base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True))


def sign_platform(secret: str, body: bytes) -> str:
    """HMAC-SHA256 of the body in lower-case hex. The key is the whole secret, `whsec_` included."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def sign_standard(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` of HMAC-SHA256 over `{id}.{timestamp}.{body}`. The key is the secret's decoded bytes."""
    signed_content = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed_content, "sha256")).decode()


@lru_cache(4096)
def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
