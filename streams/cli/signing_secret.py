"""The signing secret that a person gives to a command."""

import base64
from contextlib import suppress

from streams.core.deliveries.signing import SECRET_PREFIX, make_secret
from streams.core.errors import FieldError, Invalid


def checked_secret(secret: str) -> str:
    """The secret. Raises `Invalid` for a text that cannot sign."""
    with suppress(ValueError):
        if secret.startswith(SECRET_PREFIX):
            return make_secret(base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True))
    message = f"must be the webhook's signing secret, as its page shows it: {SECRET_PREFIX}…"
    raise Invalid(FieldError("--secret", message))
