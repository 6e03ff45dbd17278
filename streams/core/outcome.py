"""An outcome: the verdict on one attempt, in words for the person who reads it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import NamedTuple


class OutcomeKind(StrEnum):
    """What happened to an attempt; only `DELIVERED` is success."""

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


# What our own broken network looks like; an endpoint that answers at all is never one of these.
NETWORK_KINDS = frozenset({OutcomeKind.DNS, OutcomeKind.REFUSED, OutcomeKind.CONNECT_TIMEOUT})


class Response(NamedTuple):
    """What the endpoint answered; header names are lower-case, `body` is the start of it."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Response({self.status})"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there was no answer; `detail` is the network's own words."""

    kind: OutcomeKind
    detail: str = ""


class Outcome(NamedTuple):
    """The verdict: `message` is for a person, `retry_after` is what the endpoint asked for."""

    kind: OutcomeKind
    message: str
    retry_after: timedelta | None = None

    @property
    def delivered(self) -> bool:
        return self.kind is OutcomeKind.DELIVERED


_FAILURE_MESSAGES = {
    OutcomeKind.TIMEOUT: "The endpoint did not answer within {timeout:g} seconds.",
    OutcomeKind.CONNECT_TIMEOUT: "No connection to the endpoint could be opened in time.",
    OutcomeKind.DNS: "The endpoint's host name could not be resolved.",
    OutcomeKind.REFUSED: "The endpoint's server refused the connection.",
    OutcomeKind.RESET: "The endpoint closed the connection before it answered.",
    OutcomeKind.TLS: "The TLS connection failed: check the endpoint's certificate and that it speaks TLS 1.2 or newer.",
    OutcomeKind.FORBIDDEN_ADDRESS: "The endpoint's host name leads to an address that webhooks may not reach.",
    OutcomeKind.INVALID_RESPONSE: "The endpoint answered with something that is not HTTP.",
    OutcomeKind.UNSENDABLE: "The request could not be built for this webhook.",
}


def judge(result: Response | Failure, now: datetime, timeout_seconds: float) -> Outcome:
    """2xx is success; everything else, a redirect too, is a failure of its own kind (R7)."""
    if isinstance(result, Failure):
        message = _FAILURE_MESSAGES[result.kind].format(timeout=timeout_seconds)
        return Outcome(result.kind, f"{message} ({result.detail})" if result.detail else message)
    status = result.status
    if 200 <= status < 300:
        return Outcome(OutcomeKind.DELIVERED, f"The endpoint answered {status}.")
    if 300 <= status < 400:
        return Outcome(
            OutcomeKind.REDIRECT, f"The endpoint answered {status}, a redirect; webhooks do not follow redirects."
        )
    if status == 410:
        return Outcome(OutcomeKind.GONE, "The endpoint answered 410 Gone: it asks for no more events.")
    if status in (429, 503) and (wait := retry_after(result.headers.get("retry-after"), now)) is not None:
        seconds = round(wait.total_seconds())
        return Outcome(
            OutcomeKind.THROTTLED, f"The endpoint answered {status} and asked to wait {seconds} seconds.", wait
        )
    if 400 <= status < 500:
        return Outcome(OutcomeKind.CLIENT_ERROR, f"The endpoint answered {status}, so it did not accept the event.")
    return Outcome(OutcomeKind.SERVER_ERROR, f"The endpoint answered {status}: its server failed.")


def retry_after(value: str | None, now: datetime) -> timedelta | None:
    """The wait that a Retry-After header asks for, in seconds or as a date (RFC 9110 §10.2.3); None if unreadable."""
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
