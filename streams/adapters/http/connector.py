"""An aiohttp connector that opens sockets to allowed addresses only."""

import asyncio
import math
import socket
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext
from typing import cast

from aiohttp import AddrInfoType, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from streams.adapters.http.batching import BatchedWrites, Deadlines
from streams.adapters.http.response_parser import EndpointConnection
from streams.adapters.lookups import Lookup, Lookups
from streams.core.deliveries.outcome import Response
from streams.core.webhooks.address import Network, is_allowed


class ForbiddenAddress(OSError):
    """The host resolves to an address that webhooks may not reach."""


class ProxyFailed(OSError):
    """The egress proxy opened no connection, and the endpoint is not known to be the cause."""


@dataclass(slots=True)
class ConnectTrace:
    """How far an attempt got, which aiohttp's errors do not say. `deadline` is in the loop's time."""

    deadline: float = math.inf
    account_id: str = ""
    waits_for_lookup: bool = False
    is_opening: bool = False
    is_connected: bool = False
    handler: EndpointConnection | None = None

    def end_wait(self) -> None:
        """Its look-up begins, or is not needed."""
        self.waits_for_lookup = False

    @property
    def partial_response(self) -> Response | None:
        """What has arrived of the response. None until its headers are complete."""
        return None if self.handler is None else self.handler.partial_response


# A context variable: aiohttp resolves and connects in its own tasks, which inherit the attempt's context.
TRACE: ContextVar[ConnectTrace] = ContextVar("trace")
NO_TIMEOUT = ClientTimeout()


class GuardedConnector(TCPConnector):
    """Checks an address when the name resolves, and again when the socket opens."""

    def __init__(
        self,
        allowed_networks: Sequence[Network],
        tls: SSLContext,
        lookup: Lookup | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lookups = Lookups(lookup, monotonic)
        super().__init__(
            limit=0,
            ssl=tls,
            resolver=_GuardedResolver(allowed_networks, self.lookups),
            # Its cache lets an account wait for the look-up of another.
            use_dns_cache=False,
            socket_factory=partial(_open_socket, allowed_networks),
        )
        loop = asyncio.get_running_loop()
        new_handler = partial(_new_handler, loop, BatchedWrites(loop), Deadlines(loop))
        # aiohttp has no public way to set the protocol of its connections.
        self._factory = cast("partial[ResponseHandler]", new_handler)

    async def open(self, client_request: ClientRequest, trace: ConnectTrace) -> Connection:
        """Open a new connection. Raises TimeoutError at the attempt's deadline."""
        TRACE.set(trace)
        async with asyncio.timeout_at(trace.deadline):
            return await self.connect(client_request, [], NO_TIMEOUT)

    async def close(self, *, abort_ssl: bool = False) -> None:
        await super().close(abort_ssl=abort_ssl)
        self.lookups.close()


def _new_handler(loop: asyncio.AbstractEventLoop, writes: BatchedWrites, deadlines: Deadlines) -> EndpointConnection:
    """The protocol of a connection, made when its socket is connected and before any TLS handshake."""
    TRACE.get().is_connected = True
    return EndpointConnection(loop, writes, deadlines)


class _GuardedResolver(AbstractResolver):
    """Refuses a name if any of its addresses is forbidden: a mix is an attack or a mistake."""

    def __init__(self, allowed_networks: Sequence[Network], lookups: Lookups) -> None:
        self._allowed_networks = allowed_networks
        self._lookups = lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        trace = TRACE.get()
        trace.waits_for_lookup = True
        addresses = await self._lookups.find(host, trace.account_id, trace.end_wait)
        trace.end_wait()
        if not all(is_allowed(address, self._allowed_networks) for address in addresses):
            raise ForbiddenAddress(host)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _open_socket(allowed_networks: Sequence[Network], info: AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = info
    if not is_allowed(str(address[0]), allowed_networks):
        raise ForbiddenAddress(address[0])
    TRACE.get().is_opening = True
    return socket.socket(family, kind, protocol)
