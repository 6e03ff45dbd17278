"""Why the signature of a request is right or wrong: each check of a receiver, and the usual causes of a failure."""

import base64
import binascii
import gzip
import hmac
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

from streams.core.deliveries.signing import SECRET_PREFIX, parse_secret, sign_platform, sign_standard
from streams.core.times import format_time

ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"
# The tolerance of Standard Webhooks' libraries.
TOLERANCE_SECONDS = 300
# A time with more digits is in milliseconds.
MAX_SECONDS_DIGITS = 11
MAX_UNPACKED_BYTES = 1024 * 1024
_OWN_SECRET = "Take the signing secret of this webhook, as its page shows it: whsec_…"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: `secret`, `header`, `clock`, `body`, `encoding` or `signature`."""

    check: str
    is_right: bool
    message: str


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """A request as a receiver got it; names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"ReceivedRequest({self.headers.get(ID_HEADER)})"


def verify_request(
    request: ReceivedRequest, secret: str, now: datetime, platform_header: str, *, any_time: bool = False
) -> Sequence[Finding]:
    """Each check of a request, in order, up to the cause of a failure. The request is genuine if all are right.

    `any_time` accepts an old request, such as one from a log.
    """
    usable_secret, secret_finding = _usable(secret)
    findings = [secret_finding]
    if usable_secret is None:
        return findings
    findings.append(_check_headers(request, platform_header))
    if not findings[-1].is_right:
        return findings
    if TIME_HEADER in request.headers and not any_time:
        findings.append(_check_clock(request.headers[TIME_HEADER], now))
    if _is_signed(request, request.body, usable_secret, platform_header):
        return [*findings, Finding("body", True, f"{len(request.body)} bytes, as they were signed")]
    return [*findings, _cause(request, usable_secret, platform_header)]


def _usable(secret: str) -> tuple[str | None, Finding]:
    """The secret, if it can sign, and what is wrong with it."""
    for text, problem in _spellings(secret):
        with suppress(ValueError):
            usable_secret = parse_secret(text)
            message = f"the secret {problem}: your receiver must use it without that" if problem else "is complete"
            return (None if problem else usable_secret), Finding("secret", not problem, message)
    if secret.startswith("sk_"):
        return None, Finding("secret", False, f"is an API key. {_OWN_SECRET}")
    if not secret.strip().startswith(SECRET_PREFIX):
        return None, Finding("secret", False, f"does not begin with {SECRET_PREFIX}. {_OWN_SECRET}")
    return None, Finding("secret", False, f"is not complete: it is no Base64 of 24 to 64 bytes. {_OWN_SECRET}")


def _spellings(secret: str) -> Iterator[tuple[str, str]]:
    yield secret, ""
    yield secret.strip(), "has a space or a line end around it"
    yield secret.strip().strip("\"'"), "has quotation marks around it"


def _check_headers(request: ReceivedRequest, platform_header: str) -> Finding:
    headers = request.headers
    missing = [name for name in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER) if name not in headers]
    if platform_header.lower() not in headers and missing:
        renamed = [name for name in headers if name.replace("_", "-").removeprefix("http-") in missing]
        hint = f"; your framework calls it {renamed[0]}" if renamed else ": did a proxy remove it?"
        return Finding("header", False, f"{', '.join(missing)} is missing{hint}")
    text = headers.get(TIME_HEADER, "0")
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
        return Finding("header", False, f"{TIME_HEADER} must be a whole number of seconds")
    if len(text) > MAX_SECONDS_DIGITS:
        return Finding("header", False, f"{TIME_HEADER} has {len(text)} digits: it must be seconds, not milliseconds")
    signature = headers.get(SIGNATURE_HEADER)
    if signature is not None and not any(part.startswith("v1,") for part in signature.split()):
        return Finding("header", False, f"{SIGNATURE_HEADER} has no signature of the form v1,<Base64>")
    if missing:
        absent = ", ".join(missing)
        return Finding("header", True, f"{platform_header} is there; {absent} is missing, so the time is not checked")
    return Finding("header", True, "all are there")


def _check_clock(text: str, now: datetime) -> Finding:
    seconds = round(now.timestamp()) - int(text)
    sent_at = format_time(datetime.fromtimestamp(int(text), UTC))
    if abs(seconds) <= TOLERANCE_SECONDS:
        return Finding("clock", True, f"sent at {sent_at}, {abs(seconds)} seconds from this machine's clock")
    place = "before" if seconds > 0 else "after"
    return Finding(
        "clock",
        False,
        f"sent at {sent_at}, {abs(seconds)} seconds {place} this machine's clock; {TOLERANCE_SECONDS} are allowed. Is "
        "the clock right? A stored request is old: add --any-time.",
    )


def _is_signed(request: ReceivedRequest, body: bytes, secret: str, platform_header: str) -> bool:
    """Whether each signature scheme of the request has at least one right signature of this body."""
    headers, name = request.headers, platform_header.lower()
    verdicts = []
    if name in headers:
        given = (headers[name], headers.get(f"{name}-next", ""))
        expected = sign_platform(secret, body)
        verdicts.append(any(hmac.compare_digest(one.encode(), expected.encode()) for one in given))
    if all(one in headers for one in (ID_HEADER, TIME_HEADER, SIGNATURE_HEADER)):
        expected = sign_standard(secret, headers[ID_HEADER], int(headers[TIME_HEADER]), body)
        verdicts.append(
            any(hmac.compare_digest(one.encode(), expected.encode()) for one in headers[SIGNATURE_HEADER].split())
        )
    return bool(verdicts) and all(verdicts)


def _cause(request: ReceivedRequest, secret: str, platform_header: str) -> Finding:
    """The cause of a wrong signature: what would make it right."""
    for check, body, cause in _other_bodies(request.body):
        if _is_signed(request, body, secret, platform_header):
            return Finding(check, False, cause)
    name = platform_header.lower()
    alone = ReceivedRequest(
        {one: request.headers[one] for one in (name, f"{name}-next") if one in request.headers}, b""
    )
    if _is_signed(alone, request.body, secret, platform_header):
        message = f"{ID_HEADER}, {TIME_HEADER} or {SIGNATURE_HEADER} is not as it was sent: {platform_header} is right"
        return Finding("header", False, message)
    return Finding(
        "signature",
        False,
        "is of another secret, or the body is not the bytes that arrived. First compare the secret with the webhook's "
        "page: after a rotation it is a new one. Then take the raw body before a framework parses it.",
    )


_RAW = "verify the raw bytes of the request, before anything parses them"


def _other_bodies(body: bytes) -> Iterator[tuple[str, bytes, str]]:
    """Possible original bodies, each with its check and cause."""
    for end in (b"\r\n", b"\n"):
        if body.endswith(end):
            yield "body", body.removesuffix(end), f"a line end was added to the body: {_RAW}"
    yield "body", body.replace(b"\r\n", b"\n"), f"line ends in the body were changed: {_RAW}"
    yield "encoding", body.removeprefix(b"\xef\xbb\xbf"), f"a byte order mark was added before the body: {_RAW}"
    with suppress(UnicodeError):
        yield "encoding", body.decode().encode("latin-1"), f"the body was read as Latin-1 and is UTF-8: {_RAW}"
    with suppress(UnicodeError):
        yield "encoding", body.decode("utf-16").encode(), f"the body was converted to UTF-16: {_RAW}"
    with suppress(UnicodeError):
        yield "encoding", body.decode("latin-1").encode(), f"the body was converted to Latin-1: {_RAW}"
    with suppress(binascii.Error, ValueError):
        decoded = base64.b64decode(body.strip(), validate=True)
        yield "encoding", decoded, "the body is Base64, as some gateways pass it on: decode it first"
    with suppress(OSError, EOFError, ValueError, zlib.error):
        unpacked = gzip.GzipFile(fileobj=BytesIO(body)).read(MAX_UNPACKED_BYTES)
        yield "encoding", unpacked, "the body is compressed: unpack it first"
    # Last: a parser of JSON accepts some of the encodings above.
    with suppress(ValueError, RecursionError):
        compact = json.dumps(json.loads(body), ensure_ascii=False, separators=(",", ":")).encode()
        yield "body", compact, f"the body was parsed and written as JSON a second time: {_RAW}"
