"""The rules for webhook URLs."""

import re
from ipaddress import IPv4Address
from urllib.parse import urlsplit

from streams.core.errors import FieldError
from streams.core.limits import MAX_URL_CHARACTERS

_PRINTABLE = re.compile(r"[!-~]+", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_NO_HOST_MESSAGE = "must name a host (write international names in their xn-- form)"


def url_errors(field: str, url: object, *, allow_http: bool = False) -> list[FieldError]:
    """What is wrong with an endpoint's URL; an empty list when it is allowed.

    Its address is checked when the socket opens.
    """
    problem = _problem(url, allow_http)
    if problem is None and "#" in str(url):
        problem = "must not have a fragment (#…)"
    return [FieldError(field, problem)] if problem else []


def page_url_errors(field: str, url: str) -> list[FieldError]:
    """What is wrong with the URL of a page that browsers are sent to: http and a fragment are allowed."""
    problem = _problem(url, allow_http=True)
    return [FieldError(field, problem)] if problem else []


def is_same_origin(first_url: str, second_url: str) -> bool:
    """Whether two endpoint URLs have the same scheme, host and port (RFC 6454 §5)."""
    return _origin(first_url) == _origin(second_url)


def host_of(url: str) -> str:
    """The host of a URL; empty for a stored URL that was never valid."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def without_query(url: str) -> str:
    """A URL without the parts that may hold a secret: `?…` stands for its query; user info and fragment are omitted."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="…" if parts.query else "", fragment="").geturl()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def _problem(url: object, allow_http: bool) -> str | None:
    if not isinstance(url, str) or not url:
        return "must be a URL such as https://example.com/webhooks"
    if len(url) > MAX_URL_CHARACTERS:
        return f"must have at most {MAX_URL_CHARACTERS} characters"
    if not _PRINTABLE.fullmatch(url) or "\\" in url:
        return "must be plain ASCII without spaces, control characters or backslashes (percent-encode them)"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "is not a URL: check its host and its port"
    if parts.scheme not in ("https", "http"):
        return "must start with https://" + (" or http://" if allow_http else "")
    if parts.scheme == "http" and not allow_http:
        return (
            "must start with https://. For a server on your own machine, use `scorm-webhooks listen`; "
            "for plain http, the operator sets SCORM_WEBHOOKS_ALLOW_HTTP=true"
        )
    if parts.username is not None or parts.password is not None or "@" in parts.netloc:
        return "must not hold a user name or password; a webhook sends credentials in a header"
    return _host_problem(parts.hostname, parts.netloc, port)


def _host_problem(host: str | None, netloc: str, port: int | None) -> str | None:
    host_text = netloc.rpartition(":")[0] if port is not None else netloc.removesuffix(":")
    if not host or not _HOST.fullmatch(host_text):
        return _NO_HOST_MESSAGE
    if ":" not in host and (problem := _name_problem(host)):
        return problem
    if port == 0:
        return "must not use port 0"
    return None


def _name_problem(host: str) -> str | None:
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(0 < len(label) <= 63 for label in labels):
        return _NO_HOST_MESSAGE
    if _NUMBER.fullmatch(labels[-1]) and not _is_ipv4(host):
        # Resolvers read 127.1, 0x7f000001 and 2130706433 as addresses (and so does the WHATWG URL standard).
        return "must write an IPv4 address as four decimal numbers; no other host ends in a number"
    return None


def _is_ipv4(host: str) -> bool:
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True
