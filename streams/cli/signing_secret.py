"""The signing secret that a person gives to a command."""

from streams.core.deliveries.signing import SECRET_PREFIX, parse_secret
from streams.core.errors import FieldError, Invalid


def checked_secret(secret: str) -> str:
    """The secret. Raises `Invalid` for a text that cannot sign."""
    try:
        return parse_secret(secret)
    except ValueError:
        message = f"must be the webhook's signing secret, as its page shows it: {SECRET_PREFIX}…"
        raise Invalid(FieldError("--secret", message)) from None
