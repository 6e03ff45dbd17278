"""Outcomes of attempts, each with a message for a person."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple

from streams.core.limits import MAX_RESPONSE_HEADER_BYTES


class OutcomeKind(StrEnum):
    """The kind of an outcome; only `DELIVERED` is a success."""

    DELIVERED = "delivered"
    REDIRECT = "redirect"
    CLIENT_ERROR = "client_error"
    SERVER_ERROR = "server_error"
    GONE = "gone"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    CONNECT_TIMEOUT = "connect_timeout"
    DNS = "dns"
    REFUSED = "refused"
    RESET = "reset"
    TLS = "tls"
    FORBIDDEN_ADDRESS = "forbidden_address"
    INVALID_RESPONSE = "invalid_response"
    UNSENDABLE = "unsendable"
    CREDENTIALS = "credentials"
    TOKEN_UNAVAILABLE = "token_unavailable"
    PROXY_ERROR = "proxy_error"
    # Of a pulled item: its reader gave it back, or its lease ended.
    NOT_ACKNOWLEDGED = "not_acknowledged"
    LEASE_ENDED = "lease_ended"


# The endpoint responded, with a status.
RESPONSE_KINDS = frozenset(
    {
        *(OutcomeKind.DELIVERED, OutcomeKind.REDIRECT, OutcomeKind.CLIENT_ERROR, OutcomeKind.SERVER_ERROR),
        *(OutcomeKind.GONE, OutcomeKind.THROTTLED),
    }
)

# A reader of a pull webhook had the delivery: no request was sent.
LEASE_KINDS = frozenset({OutcomeKind.NOT_ACKNOWLEDGED, OutcomeKind.LEASE_ENDED})

# Outcomes that an outage of this deployment's network causes; a response never has one of them.
NETWORK_KINDS = frozenset({OutcomeKind.DNS, OutcomeKind.REFUSED, OutcomeKind.CONNECT_TIMEOUT, OutcomeKind.PROXY_ERROR})


# Accounts are notified of certificates that expire within this time.
CERTIFICATE_ENDING_DELAY = timedelta(days=14)


class Response(NamedTuple):
    """The endpoint's response. Header names are lower-case; `body` is the start of the body.

    `certificate_ends_at` is set only if that is within `CERTIFICATE_ENDING_DELAY`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    certificate_ends_at: datetime | None = None

    def __repr__(self) -> str:
        return f"Response({self.status})"


# No header has this name.
TRUNCATION_MARK = "…"


def truncate_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The whole headers that fit `MAX_RESPONSE_HEADER_BYTES`, in their order; `…` says how many are left out."""
    fitting_headers: dict[str, str] = {}
    remaining_bytes = MAX_RESPONSE_HEADER_BYTES
    for name, value in headers.items():
        size = len(name.encode()) + len(value.encode())
        if size <= remaining_bytes:
            fitting_headers[name] = value
            remaining_bytes -= size
    if count := len(headers) - len(fitting_headers):
        fitting_headers[TRUNCATION_MARK] = f"{count} more header{'s are' if count > 1 else ' is'} not kept"
    return fitting_headers


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no complete response. `detail` is the network's own message, `partial_response` is the part that
    arrived.

    `message` is for a person, if the endpoint is not at fault; by default the kind decides it.
    """

    kind: OutcomeKind
    detail: str = ""
    partial_response: Response | None = None
    message: str | None = None


class Outcome(NamedTuple):
    """The outcome of an attempt. `message` is for a person; `retry_after` is the wait that the endpoint asked for."""

    kind: OutcomeKind
    message: str
    retry_after: timedelta | None = None

    @property
    def is_delivered(self) -> bool:
        return self.kind is OutcomeKind.DELIVERED


# The cause, and what to do about it.
_FAILURES = {
    OutcomeKind.TIMEOUT: (
        "The endpoint did not respond within {timeout}",
        "Respond with 2xx first and do the work afterwards.",
    ),
    OutcomeKind.CONNECT_TIMEOUT: (
        "No connection to the endpoint could be opened in time",
        "Check that its server runs and that no firewall blocks us.",
    ),
    OutcomeKind.DNS: ("The endpoint's host name does not resolve", "Check the URL and the DNS record."),
    OutcomeKind.REFUSED: (
        "The endpoint's server refused the connection",
        "Check that it runs and listens on this port.",
    ),
    OutcomeKind.RESET: ("The endpoint closed the connection before it responded", ""),
    OutcomeKind.TLS: (
        "The TLS connection failed",
        "Check the endpoint's certificate, and that it supports TLS 1.2 or newer.",
    ),
    OutcomeKind.FORBIDDEN_ADDRESS: (
        "The endpoint's host name resolves to an address that webhooks may not reach",
        "Use a public address.",
    ),
    OutcomeKind.INVALID_RESPONSE: ("The endpoint's response is not HTTP", ""),
    OutcomeKind.CREDENTIALS: ("There are no credentials for the endpoint", "Check the field auth of the webhook."),
    OutcomeKind.TOKEN_UNAVAILABLE: ("The token server gave no token", ""),
    OutcomeKind.PROXY_ERROR: (
        "The platform's egress proxy opened no connection to the endpoint",
        "This does not count against the webhook. Ask the platform's operator.",
    ),
    OutcomeKind.UNSENDABLE: ("The request could not be built for this webhook", ""),
}


# The same when a part of the response arrived.
_PARTIAL_RESPONSE_FAILURES = {
    OutcomeKind.TIMEOUT: (
        "The endpoint responded with {status}, but its response did not end within {timeout}",
        "End it with the length that Content-Length names, or close the connection.",
    ),
    OutcomeKind.RESET: (
        "The endpoint responded with {status}, but closed the connection before the end of its response",
        "Send as many bytes as Content-Length names.",
    ),
}


# A receiver has no page for a POST.
FIREWALL_MEANING = (
    "probably a firewall before its server refused the request. Let our source addresses and our User-Agent through."
)


def is_of_firewall(status: int, headers: Mapping[str, str]) -> bool:
    """Whether a refusal looks like one of a firewall; header names are lower-case."""
    return status in (403, 406) and headers.get("content-type", "").startswith("text/html")


def judge(result: Response | Failure, now: datetime, timeout_seconds: float) -> Outcome:
    """The outcome of a response or a failure. 2xx is a success; anything else, including a redirect, is a failure."""
    if isinstance(result, Failure):
        return _failure_outcome(result, timeout_seconds)
    status = result.status
    if 200 <= status < 300:
        return Outcome(OutcomeKind.DELIVERED, f"The endpoint responded with {status}.")
    if 300 <= status < 400:
        message = (
            f"The endpoint responded with {status}, a redirect. Redirects are not followed: register the final URL."
        )
        return Outcome(OutcomeKind.REDIRECT, message)
    if status == 410:
        return Outcome(OutcomeKind.GONE, "The endpoint responded with 410 Gone: it wants no more events.")
    if status in (429, 503) and (wait := parse_retry_after(result.headers.get("retry-after"), now)) is not None:
        seconds = round(wait.total_seconds())
        return Outcome(
            OutcomeKind.THROTTLED, f"The endpoint responded with {status} and asked to wait {seconds} seconds.", wait
        )
    if is_of_firewall(status, result.headers):
        message = f"The endpoint responded with {status} and a web page: {FIREWALL_MEANING}"
        return Outcome(OutcomeKind.CLIENT_ERROR, message)
    if 400 <= status < 500:
        return Outcome(OutcomeKind.CLIENT_ERROR, f"The endpoint responded with {status}: it did not accept the event.")
    return Outcome(OutcomeKind.SERVER_ERROR, f"The endpoint responded with {status}: its server failed.")


def _failure_outcome(failure: Failure, timeout_seconds: float) -> Outcome:
    if failure.message is not None:
        return Outcome(failure.kind, failure.message)
    status = failure.partial_response.status if failure.partial_response else None
    messages = _FAILURES if status is None else {**_FAILURES, **_PARTIAL_RESPONSE_FAILURES}
    cause, remedy = messages[failure.kind]
    detail = f" ({failure.detail})" if failure.detail else ""
    timeout = "1 second" if timeout_seconds == 1 else f"{timeout_seconds:g} seconds"
    message = f"{cause.format(timeout=timeout, status=status)}{detail}. {remedy}".rstrip()
    return Outcome(failure.kind, message)


def parse_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The wait that a Retry-After header asks for, in seconds or as a date (RFC 9110 §10.2.3); None if invalid."""
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text.lstrip("0")[:10] or 0), 10**8))
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(moment - now, timedelta(0))
