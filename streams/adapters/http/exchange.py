"""Send a POST over an idle or a new connection, and read its response."""

import asyncio
import re
import ssl
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from functools import cached_property
from typing import cast

from aiohttp import ClientConnectionError, ClientRequest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from streams.adapters.http.connector import ConnectTrace, GuardedConnector
from streams.adapters.http.idle_connections import IdleConnections
from streams.adapters.http.response_parser import EndpointConnection
from streams.core.deliveries.outcome import CERTIFICATE_ENDING_DELAY, Response
from streams.core.deliveries.request import Request
from streams.core.errors import Unavailable
from streams.core.webhooks.headers import is_connection_header

_TOKEN_PATTERN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
# A webhook's own headers replace these. Without the second one, an endpoint may compress its response.
_DEFAULT_HEADERS = {"accept": "Accept: */*\r\n", "accept-encoding": "Accept-Encoding: identity\r\n"}


class _EndpointRequest(ClientRequest):
    """What aiohttp's connector needs to know about a URL. It caches the key of the pool."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class RequestTarget:
    """A URL, prepared for requests: aiohttp's form of it, and the start of each request. Needs a running loop."""

    def __init__(self, url: URL) -> None:
        # Certificates hold names without the dot at the end.
        self.client_request = _EndpointRequest("POST", url, server_hostname=(url.raw_host or "").rstrip("."))
        self.request_start = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {self.client_request.headers['Host']}\r\n"


class PostExchange:
    """Sends POST requests, one at a time over each connection.

    aiohttp opens and checks connections, llhttp parses. For each request, aiohttp's session and pool would cost more
    than all of this (decision 0002). No attempt begins on a connection older than `max_life_seconds`, and no more than
    `max_connections` are open.
    """

    def __init__(
        self,
        connector: GuardedConnector,
        max_life_seconds: float,
        monotonic: Callable[[], float],
        max_connections: int,
    ) -> None:
        self._connector = connector
        self._idle_connections = IdleConnections(max_life_seconds, monotonic)
        self._monotonic = monotonic
        self._max_connections = max_connections
        self._in_use_count = 0

    async def send(self, target: RequestTarget, request: Request, trace: ConnectTrace) -> Response:
        """Send the request's bytes unchanged. Returns as much of the response as `EndpointConnection` keeps.

        Raises the exceptions of aiohttp and `EndpointConnection`, ValueError for a header that would change the end of
        the request, and `Unavailable` if all connections are in use.
        """
        message = _build_head(target, request) + request.body
        key = target.client_request.connection_key
        if (connection := self._idle_connections.take(key)) is not None:
            try:
                return await self._send(key, connection, message, trace, request.kept_body_bytes)
            except ClientConnectionError:
                if trace.handler is None or trace.handler.received_bytes:
                    raise
                # The endpoint closed the idle connection, which is not a failure: send again on a new one.
                self._idle_connections.close_host(key)
                trace.handler = None
        self._free_connection()
        connection = await self._open(target, trace)
        handler = cast(EndpointConnection, connection.protocol)
        handler.opened_at = self._monotonic()
        handler.certificate_ends_at = _certificate_end(connection.transport)
        return await self._send(key, connection, message, trace, request.kept_body_bytes)

    async def _open(self, target: RequestTarget, trace: ConnectTrace) -> Connection:
        self._in_use_count += 1
        try:
            return await self._connector.open(target.client_request, trace)
        finally:
            self._in_use_count -= 1

    def _free_connection(self) -> None:
        """Close an idle connection if there is no room for another. Raises `Unavailable` if all are in use."""
        if self._in_use_count >= self._max_connections:
            raise Unavailable(f"all {self._max_connections} connections that this process may open are in use")
        while (
            self._idle_connections.count and self._in_use_count + self._idle_connections.count >= self._max_connections
        ):
            self._idle_connections.close_one()

    async def close(self) -> None:
        self._idle_connections.close()
        await self._connector.close()

    async def _send(
        self, key: ConnectionKey, connection: Connection, message: bytes, trace: ConnectTrace, kept_body_bytes: int
    ) -> Response:
        trace.handler = handler = cast(EndpointConnection, connection.protocol)
        self._in_use_count += 1
        try:
            response = await handler.send(message, trace.deadline, kept_body_bytes)
            if handler.certificate_ends_at is None:
                return response
            return response._replace(certificate_ends_at=handler.certificate_ends_at)
        finally:
            self._in_use_count -= 1
            if handler.is_reusable:
                self._idle_connections.add(key, connection)
            else:
                # Unread bytes of this response, or unsent bytes of this request, would precede the next one.
                connection.close()


def _certificate_end(transport: asyncio.Transport | None) -> datetime | None:
    """When the certificate of a new connection expires, if that is soon. None without TLS."""
    certificate = transport.get_extra_info("peercert") if transport else None
    if not certificate:
        return None
    try:
        ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    except (KeyError, ValueError, OverflowError):
        return None
    return ends_at if ends_at - datetime.now(UTC) < CERTIFICATE_ENDING_DELAY else None


def _build_head(target: RequestTarget, request: Request) -> bytes:
    """The request line and all headers. Raises ValueError for a header that would change the end of the request.

    Customers with the same host share connections: no request may include the start of the next one.
    """
    defaults: Collection[str] = _DEFAULT_HEADERS.values()
    if request.private_names:
        for name in request.private_names:
            if not _TOKEN_PATTERN.fullmatch(name) or is_connection_header(name):
                raise ValueError(f"the header {name} cannot be set by a webhook")
        own_names = {name.lower() for name in request.private_names}
        defaults = [line for name, line in _DEFAULT_HEADERS.items() if name not in own_names]
    headers = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    text = f"{target.request_start}{''.join(defaults)}{''.join(headers)}Content-Length: {len(request.body)}\r\n\r\n"
    # The request line, Host, Content-Length and the end.
    lines = 4 + len(defaults) + len(headers)
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise ValueError("a header holds a line break or a null")
    return text.encode()
