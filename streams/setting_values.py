"""Convert the text of a setting, and check it; each raises `ValueError` with what would be right."""

import re
from pathlib import Path
from typing import TypeVar

from pydantic import SecretStr

from streams.core.accounts.access import parse_operator_keys
from streams.core.deliveries.schedule import parse_schedule
from streams.core.errors import Invalid
from streams.core.text import escape_controls
from streams.core.webhooks.address import parse_networks
from streams.core.webhooks.headers import is_fixed_header
from streams.core.webhooks.url import page_url_errors

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)
MAX_LOGO_BYTES = 32 * 1024
LOGO_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
AnyText = TypeVar("AnyText", str, "str | None")


def free_header(name: str) -> str:
    if is_fixed_header(name):
        raise ValueError("must be a header that no request has otherwise, such as X-Signature")
    return name


def split(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def check_operator_keys(keys: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    parse_operator_keys(key.get_secret_value() for key in keys)
    return keys


def schedule(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_schedule(value)
    except Invalid as error:
        raise ValueError("; ".join(item.message for item in error.errors)) from None


def printable(text: AnyText) -> AnyText:
    if text is not None and escape_controls(text) != text:
        raise ValueError("must not contain control characters")
    return text


def issuer(url: str | None) -> str | None:
    if url is None:
        return None
    match = re.fullmatch(r"(https?)://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?(/[!-~]*)?", url, re.ASCII)
    if not match or "?" in url or "#" in url:
        raise ValueError("must be a URL such as https://login.example.com, without a query")
    if match[1] == "http" and match[2] not in LOOPBACK_HOSTS:
        raise ValueError("must begin with https://, because the provider's answers decide who signs in")
    return url


def proxy_url(url: str | None) -> str | None:
    if url is None:
        return None
    parts = re.fullmatch(r"http://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})/?", url, re.ASCII)
    if parts is None or not 0 < int(parts[2]) < 65536:
        # Not the URL itself: it may contain a password.
        raise ValueError(
            "must be http://host:port, without a path; set its credentials in "
            "SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS_FILE"
        )
    return url.removesuffix("/")


def proxy_credentials(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.fullmatch(r"[!-9;-~]{1,255}:[ -~]{1,255}", secret.get_secret_value()):
        raise ValueError("must be user:password, in printable ASCII")
    return secret


def page_url(url: str | None) -> str | None:
    if url is not None and (errors := page_url_errors("", url)):
        raise ValueError(errors[0].message)
    return url


def visible(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None and not re.fullmatch(r"[ -~]{1,1024}", secret.get_secret_value()):
        raise ValueError("must be 1 to 1024 characters of printable ASCII")
    return secret


def scopes(text: str) -> str:
    if not re.fullmatch(r"[!-~]+( [!-~]+)*", text) or len(text) > 1000 or "openid" not in text.split(" "):
        raise ValueError("must be words separated by one space, with openid among them")
    return text


def logo(path: Path | None) -> Path | None:
    if path is not None:
        if path.suffix.lower() not in LOGO_TYPES:
            raise ValueError("must be a .png or an .svg file")
        try:
            size = path.stat().st_size
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None
        if size > MAX_LOGO_BYTES:
            raise ValueError(f"has {size} bytes, and may have at most {MAX_LOGO_BYTES}")
    return path


def origins(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        if not _ORIGIN.fullmatch(text):
            raise ValueError(f"{text!r} is not an origin such as https://lms.example.com")
    return texts


def networks(value: object) -> object:
    return parse_networks(value) if isinstance(value, str) else value
