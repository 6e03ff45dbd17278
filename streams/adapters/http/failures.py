"""Whatever went wrong with a POST, as a failure of the kind that a person can act upon."""

import ssl

from aiohttp import (
    ClientConnectionError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientPayloadError,
    ClientSSLError,
)

from streams.adapters.http.connector import ConnectTrace, ForbiddenAddress
from streams.adapters.http.response_parser import EndlessResponse, InvalidResponse, printable
from streams.core.outcome import Failure, OutcomeKind

MOST_DETAIL_CHARACTERS = 200


def failure_of(error: Exception, trail: ConnectTrace) -> Failure:
    """The failure that `error` is; `trail` tells how far the attempt had come."""
    match error:
        case ClientConnectorError():
            return _no_connection(error)
        case TimeoutError():
            return _too_late(trail)
        case InvalidResponse():
            return Failure(OutcomeKind.INVALID_RESPONSE, brief(str(error)))
        case EndlessResponse():
            return Failure(OutcomeKind.INVALID_RESPONSE, "headers or interim answers without end")
        case ClientPayloadError():
            return Failure(OutcomeKind.RESET, "in the middle of its answer")
        case ClientConnectionError() if isinstance(error.__cause__, ssl.SSLError):
            # With TLS 1.3 an endpoint that wants a certificate of ours says so after the handshake.
            return Failure(OutcomeKind.TLS, _tls_words(error.__cause__))
        case ClientConnectionError():
            return Failure(OutcomeKind.RESET)
        case ValueError():
            return Failure(OutcomeKind.UNSENDABLE, brief(str(error)))
    # A mistake of ours; the delivery is not lost by it, and its attempt shows it.
    return Failure(OutcomeKind.UNSENDABLE, brief(repr(error)))


def _no_connection(error: ClientConnectorError) -> Failure:
    reason = error.os_error
    match reason:
        case ForbiddenAddress():
            # Where a name leads inside of our own network is nothing to tell a customer.
            return Failure(OutcomeKind.FORBIDDEN_ADDRESS, error.host)
        case _ if isinstance(error, ClientConnectorDNSError):
            return Failure(OutcomeKind.DNS, brief(reason.strerror or str(reason)))
        case ssl.SSLError() if isinstance(error, ClientSSLError):
            return Failure(OutcomeKind.TLS, _tls_words(reason))
        case ConnectionRefusedError():
            return Failure(OutcomeKind.REFUSED, f"port {error.port}")
        case ConnectionResetError() | ConnectionAbortedError():
            # Nobody resets a connection that is not open yet: this was the TLS handshake.
            return Failure(OutcomeKind.TLS, "the connection was closed during the handshake")
    # No route to the host or network, or something missing on our side: as when nobody ever answers.
    return Failure(OutcomeKind.CONNECT_TIMEOUT, brief(reason.strerror or str(reason)))


def _too_late(trail: ConnectTrace) -> Failure:
    if trail.handler is not None:
        return Failure(OutcomeKind.TIMEOUT)
    if trail.opening:
        return Failure(OutcomeKind.CONNECT_TIMEOUT)
    return Failure(OutcomeKind.DNS, "the name servers did not answer in time")


def _tls_words(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return brief(error.verify_message)
    return brief((error.reason or str(error)).replace("_", " ").lower())


def brief(text: str) -> str:
    """The first line, printable and short."""
    line = text.strip().partition("\n")[0].rstrip(" :.")[:MOST_DETAIL_CHARACTERS]
    return printable(line)
