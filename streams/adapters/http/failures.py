"""Translate the exceptions of a POST into failures that a person can act on."""

import ssl

from aiohttp import (
    ClientConnectionError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientPayloadError,
    ClientSSLError,
)

from streams.adapters.http.connector import ConnectTrace, ForbiddenAddress, ProxyFailed
from streams.adapters.http.response_parser import EndlessResponse, InvalidResponse, printable
from streams.core.deliveries.outcome import Failure, OutcomeKind

MAX_DETAIL_CHARACTERS = 200
# OpenSSL's reasons for a response in plain text, by its version.
_NOT_TLS_REASONS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"})


def failure_of(error: Exception, trace: ConnectTrace) -> Failure:
    """The failure that `error` means. `trace` says how far the attempt got."""
    match error:
        case ProxyFailed():
            # The proxy's address would reveal the operator's network to customers. It is in the log.
            return Failure(OutcomeKind.PROXY_ERROR, shorten_detail(f"it {error.strerror}"))
        case ClientConnectorError():
            return _connect_failure(error)
        case TimeoutError():
            return _timeout_failure(trace)
        case InvalidResponse():
            return Failure(OutcomeKind.INVALID_RESPONSE, shorten_detail(str(error)))
        case EndlessResponse():
            return Failure(OutcomeKind.INVALID_RESPONSE, "headers or interim responses without end")
        case ClientPayloadError():
            return Failure(OutcomeKind.RESET, partial_response=trace.partial_response)
        case ClientConnectionError() if isinstance(error.__cause__, ssl.SSLError):
            # With TLS 1.3 an endpoint that requires a client certificate rejects the connection after the handshake.
            return Failure(OutcomeKind.TLS, _tls_message(error.__cause__))
        case ClientConnectionError():
            return Failure(OutcomeKind.RESET)
        case ValueError():
            return Failure(OutcomeKind.UNSENDABLE, shorten_detail(str(error)))
    # A bug in our code. The delivery is not lost, and its attempt shows the error.
    return Failure(OutcomeKind.UNSENDABLE, shorten_detail(repr(error)))


def _connect_failure(error: ClientConnectorError) -> Failure:
    reason = error.os_error
    match reason:
        case ForbiddenAddress():
            # The address would reveal the operator's network to customers.
            return Failure(OutcomeKind.FORBIDDEN_ADDRESS, error.host)
        case _ if isinstance(error, ClientConnectorDNSError):
            return Failure(OutcomeKind.DNS, shorten_detail(reason.strerror or str(reason)))
        case ssl.SSLError() if isinstance(error, ClientSSLError):
            return Failure(OutcomeKind.TLS, _tls_message(reason))
        case ConnectionRefusedError():
            return Failure(OutcomeKind.REFUSED, f"port {error.port}")
        case ConnectionResetError() | ConnectionAbortedError():
            # Only an open connection is reset: this was the TLS handshake.
            return Failure(OutcomeKind.TLS, "the connection was closed during the handshake")
    # There is no route to the host or network.
    return Failure(OutcomeKind.CONNECT_TIMEOUT, shorten_detail(reason.strerror or str(reason)))


def _timeout_failure(trace: ConnectTrace) -> Failure:
    if trace.handler is not None:
        return Failure(OutcomeKind.TIMEOUT, partial_response=trace.partial_response)
    if trace.is_connected:
        # aiohttp gets the connection only after the TLS handshake.
        return Failure(OutcomeKind.TLS, "the handshake did not end in time")
    if trace.is_opening:
        return Failure(OutcomeKind.CONNECT_TIMEOUT)
    return Failure(OutcomeKind.DNS, "the name servers did not answer in time")


def _tls_message(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return shorten_detail(error.verify_message)
    if error.reason in _NOT_TLS_REASONS:
        return "this port does not speak TLS"
    return shorten_detail((error.reason or str(error)).replace("_", " ").lower())


def shorten_detail(text: str) -> str:
    """The first line of a text, printable and short."""
    line = text.strip().partition("\n")[0].rstrip(" :.")[:MAX_DETAIL_CHARACTERS]
    return printable(line)
