"""Signatures: the platform's own header and Standard Webhooks 1.0.0, over the same body bytes."""

import base64
import hmac
from functools import lru_cache

SECRET_PREFIX = "whsec_"
SECRET_BYTES = 32


def make_secret(key: bytes) -> str:
    """A secret as the customer sees it, from 24 to 64 random bytes (Standard Webhooks 1.0.0)."""
    if not 24 <= len(key) <= 64:
        raise ValueError(f"a signing key has 24 to 64 bytes, not {len(key)}")
    return SECRET_PREFIX + base64.b64encode(key).decode()


def sign_platform(secret: str, body: bytes) -> str:
    """Lower-case hex HMAC-SHA256 of the body, keyed with the secret as the customer sees it (R6)."""
    return hmac.digest(secret.encode(), body, "sha256").hex()


def sign_standard(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """`v1,<base64>` over `{id}.{timestamp}.{body}`, keyed with the secret's decoded bytes."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, "sha256")).decode()


@lru_cache(4096)
def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(SECRET_PREFIX))
