"""Open connections to endpoints through an HTTP proxy, by CONNECT (RFC 9110 §9.3.6)."""

import asyncio
import os
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from ssl import SSLContext
from typing import cast

from aiohttp import (
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientRequest,
    ClientTimeout,
    ServerDisconnectedError,
)
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from streams.adapters.http.connector import (
    NO_TIMEOUT,
    TRACE,
    ConnectTrace,
    ForbiddenAddress,
    GuardedConnector,
    ProxyFailed,
)
from streams.adapters.http.failures import failure_of
from streams.adapters.http.local_shortage import shortage_of
from streams.adapters.http.response_parser import InvalidResponse
from streams.adapters.lookups import Lookup
from streams.core.webhooks.address import Network, is_allowed, literal_address
from streams.core.webhooks.auth import basic_credentials
from streams.outage import Outage

MAX_HEAD_BYTES = 16 * 1024
# Further addresses of a name are not tried: all share the attempt's time.
MAX_ADDRESSES = 3
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?(?:\r\n|$)")


class ProxyRefused(ProxyFailed):
    """The proxy refuses this endpoint only."""


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """The proxy that all requests to endpoints go through.

    With `resolves_names` it gets host names, and decides itself which addresses they may have. `credentials` are
    `user:password`. `outage` is where its failures are logged.
    """

    host: str
    port: int
    outage: Outage = field(repr=False)
    credentials: str | None = field(default=None, repr=False)
    resolves_names: bool = False

    def connect_request(self, authority: str) -> bytes:
        """The request for a connection to `host:port`."""
        user, _, password = (self.credentials or "").partition(":")
        authorization = f"Proxy-Authorization: {basic_credentials(user, password)}\r\n" if user else ""
        return f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{authorization}\r\n".encode()


class ProxiedConnector(GuardedConnector):
    """Resolves and checks a name like its base, then lets the proxy connect to the checked address.

    The proxy gets http:// requests by CONNECT too: in absolute form it would replace the Host header by the address
    (RFC 9112 §3.2.2), and its own error responses would look like the endpoint's.
    """

    def __init__(
        self,
        proxy: EgressProxy,
        allowed_networks: Sequence[Network],
        tls: SSLContext,
        lookup: Lookup | None,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(allowed_networks, tls, lookup, monotonic)
        self._proxy = proxy
        self._allowed_networks = allowed_networks
        self._has_opened_tls = False
        self._response_count = 0

    async def open(self, client_request: ClientRequest, trace: ConnectTrace) -> Connection:
        TRACE.set(trace)
        try:
            connection = await self.connect(client_request, [], NO_TIMEOUT)
        except ProxyFailed as error:
            if not isinstance(error, ProxyRefused):
                self._proxy.outage.begin(self, f"{self._proxy.host}:{self._proxy.port} {error.strerror}")
            raise
        self._proxy.outage.end(self)
        return connection

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's parameter
    ) -> ResponseHandler:
        trace, loop = TRACE.get(), asyncio.get_running_loop()
        async with asyncio.timeout_at(trace.deadline):
            hosts = await self._find_hosts(req)
        while True:
            host, *hosts = hosts
            now = loop.time()
            until = now + (trace.deadline - now) / (1 + len(hosts))
            try:
                return await self._open_tunnel(req, f"{host}:{req.url.port}", until)
            except (ClientConnectorError, TimeoutError, ProxyFailed):
                if not hosts:
                    raise

    async def _find_hosts(self, req: ClientRequest) -> list[str]:
        """What the proxy is to connect to: the name itself if the proxy resolves it, otherwise checked addresses."""
        if self._proxy.resolves_names:
            address = literal_address(req.host)
            # A trailing dot would bypass a filter of names.
            return [self._check(req, address) if address else req.host.rstrip(".").lower()]
        try:
            results = await self._resolve_host(req.host, req.url.port or 0)
        except TimeoutError:
            raise
        except OSError as error:
            raise ClientConnectorDNSError(req.connection_key, error) from error
        return [self._check(req, result["host"]) for result in results][:MAX_ADDRESSES]

    def _check(self, req: ClientRequest, text: str) -> str:
        """The address as a proxy reads it, if it is allowed."""
        if not is_allowed(text, self._allowed_networks):
            raise ClientConnectorError(req.connection_key, ForbiddenAddress(text))
        address = ip_address(text.partition("%")[0])
        return f"[{address}]" if address.version == 6 else str(address)

    async def _open_tunnel(self, req: ClientRequest, authority: str, until: float) -> ResponseHandler:
        trace = TRACE.get()
        trace.is_connected = False
        transport, tunnel = await self._connect_to_proxy(authority, until)
        try:
            trace.is_opening = True
            await self._check_response(req, tunnel, until)
            trace.is_connected = True
            if transport.is_closing():
                raise ServerDisconnectedError
            if req.is_ssl():
                return await self._start_tls(req, transport, tunnel, until)
            handler: ResponseHandler = self._factory()
            transport.set_protocol(handler)
            handler.connection_made(transport)
            if tunnel.early_bytes:
                handler.data_received(tunnel.early_bytes)
        except BaseException:
            transport.abort()
            raise
        return handler

    async def _connect_to_proxy(self, authority: str, until: float) -> "tuple[asyncio.Transport, _Tunnel]":
        loop, proxy = asyncio.get_running_loop(), self._proxy
        new_tunnel = partial(_Tunnel, loop, proxy.connect_request(authority))
        try:
            async with asyncio.timeout_at(until):
                return await loop.create_connection(new_tunnel, proxy.host, proxy.port)
        except TimeoutError:
            raise ProxyFailed(None, "could not be reached in time") from None
        except OSError as error:
            if shortage_of(error):
                raise
            is_system_error = error.errno and not isinstance(error, socket.gaierror)
            reason = os.strerror(error.errno or 0) if is_system_error else error.strerror or str(error)
            raise ProxyFailed(None, f"could not be reached: {reason}") from error

    async def _check_response(self, req: ClientRequest, tunnel: "_Tunnel", until: float) -> None:
        """Wait for the response to CONNECT. Raises an error unless the connection is open."""
        earlier_count = self._response_count
        try:
            async with asyncio.timeout_at(until):
                status = await tunnel.status
        except TimeoutError:
            if self._response_count > earlier_count:
                # The proxy responds to other attempts, so it is this endpoint that does not.
                raise
            raise ProxyFailed(None, "did not respond in time") from None
        self._response_count += 1
        if 200 <= status < 300:
            return
        if status >= 500:
            reason = f"the egress proxy responded with {status}"
            raise ClientConnectorError(req.connection_key, OSError(None, reason))
        if status == 407:
            raise ProxyFailed(None, "responded with 407: check SCORM_WEBHOOKS_EGRESS_PROXY_CREDENTIALS")
        raise ProxyRefused(None, f"responded with {status}")

    async def _start_tls(
        self, req: ClientRequest, transport: asyncio.Transport, tunnel: "_Tunnel", until: float
    ) -> ResponseHandler:
        try:
            if tunnel.early_bytes:
                raise InvalidResponse("something was sent before the TLS handshake")
            async with asyncio.timeout_at(until):
                _, handler = await self._start_tls_connection(transport, req, NO_TIMEOUT)
        except (ClientConnectorError, InvalidResponse, TimeoutError) as error:
            if self._has_opened_tls:
                raise
            # A proxy that intercepts TLS, or connects to something else, fails like this for every endpoint.
            detail = failure_of(error, TRACE.get()).detail
            raise ProxyFailed(None, f"has not led to any valid TLS connection yet: {detail}") from error
        self._has_opened_tls = True
        return handler


class _Tunnel(asyncio.Protocol):
    """Sends CONNECT, and reads the head of the response. `early_bytes` came after the head."""

    def __init__(self, loop: asyncio.AbstractEventLoop, request: bytes) -> None:
        self._request = request
        self._received = b""
        self.early_bytes = b""
        self.status: asyncio.Future[int] = loop.create_future()
        # Perhaps the attempt has ended, and nothing waits for it.
        self.status.add_done_callback(lambda status: status.cancelled() or status.exception())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not subclasses of asyncio's.
        cast(asyncio.Transport, transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.status.done():
            self.early_bytes += data
            return
        self._received += data
        head, end, self.early_bytes = self._received.partition(b"\r\n\r\n")
        status_line = _STATUS_LINE.match(head)
        if end and status_line:
            self.status.set_result(int(status_line[1]))
        elif end or len(self._received) > MAX_HEAD_BYTES:
            self.status.set_exception(ProxyFailed(None, "sent something other than an HTTP response"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.status.done():
            self.status.set_exception(ProxyFailed(None, "closed the connection before it responded"))
