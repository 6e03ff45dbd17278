"""Options of the commands that check a receiver: its signing secret, and the platform's headers."""

import re
from typing import Annotated

import typer

from streams.core.deliveries.request import USER_AGENT
from streams.core.deliveries.signing import SECRET_PREFIX, parse_secret
from streams.core.errors import FieldError, Invalid

DEFAULT_PLATFORM_HEADER = "X-AllureConnect-Signature"
DEFAULT_USER_AGENT = USER_AGENT


def _header_name(text: str) -> str:
    """A name of a header (RFC 9110 §5.1)."""
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not the name of a header.")
    return text


HeaderOption = Annotated[
    str, typer.Option("--header", parser=_header_name, metavar="NAME", help="The platform's own header of signatures.")
]
AgentOption = Annotated[
    str,
    typer.Option("--user-agent", metavar="TEXT", help="The platform's `User-Agent`: see `webhooks source-addresses`."),
]
SecretOption = Annotated[
    str, typer.Option(envvar="WEBHOOK_SECRET", show_envvar=True, help="The signing secret that it verifies with.")
]
UrlArgument = Annotated[str, typer.Argument(metavar="URL", help="Your receiver, such as http://localhost:3000/hook.")]


def checked_secret(secret: str) -> str:
    """The secret. Raises `Invalid` for a text that cannot sign."""
    try:
        return parse_secret(secret)
    except ValueError:
        message = f"must be the webhook's signing secret, as its page shows it: {SECRET_PREFIX}…"
        raise Invalid(FieldError("--secret", message)) from None
