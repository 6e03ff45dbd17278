"""An aiohttp connector that reaches allowed addresses only and keeps no connection for long."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from ssl import SSLContext

from aiohttp import AddrInfoType, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from streams.core.address import Network, is_allowed

Lookup = Callable[[str], Awaitable[Sequence[str]]]
"""All addresses of a host name; raises OSError when there are none."""

KEEP_ALIVE_SECONDS = 5
# As many as there are attempts at a time by default: a domain whose name servers hang holds a thread for
# longer than an attempt lasts, and must not make the lookups of others wait (an event loop's own pool is small).
LOOKUP_THREADS = 256
# Far more than we read of an answer: only interim answers or headers without end come to this.
MOST_RECEIVED_BYTES = 512 * 1024


class ForbiddenAddress(OSError):
    """The host leads to an address that webhooks may not reach."""


class EndlessAnswer(Exception):
    """The endpoint sent more than any answer needs before its answer began."""


class Handler(ResponseHandler):
    """A connection that knows how old it is and how many bytes its endpoint sent since the last request."""

    opened_at: float
    received_bytes: int = 0

    def data_received(self, data: bytes) -> None:
        self.received_bytes += len(data)
        if self.received_bytes > MOST_RECEIVED_BYTES:
            self.set_exception(EndlessAnswer())
            self.close()
        else:
            super().data_received(data)


@dataclass(slots=True)
class Trail:
    """How far an attempt came, which the errors of aiohttp do not tell."""

    fresh_only: bool = False
    opening: bool = False
    forbidden: bool = False
    handler: Handler | None = None

    @property
    def stale(self) -> bool:
        """Whether the endpoint may have closed an idle connection just before we used it."""
        return self.handler is not None and not self.opening and self.handler.received_bytes == 0


# Sockets and lookups start in tasks of aiohttp's own, which inherit the context of the attempt.
TRAIL: ContextVar[Trail] = ContextVar("trail")


class GuardedConnector(TCPConnector):
    """Checks each address where names resolve and again where the socket opens.

    A connection serves no attempt that begins later than `life_seconds` after it was opened, because keep-alive
    would hide a change of the endpoint's DNS record for ever.
    """

    def __init__(
        self,
        opened: Sequence[Network],
        tls: SSLContext,
        lookup: Lookup | None,
        life_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(
            limit=0,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            ssl=tls,
            resolver=_GuardedResolver(opened, lookup),
            socket_factory=partial(_open_socket, opened),
        )
        self._factory = partial(Handler, loop=asyncio.get_running_loop())
        self._life_seconds = life_seconds
        self._monotonic = monotonic

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        trail = TRAIL.get()
        while True:
            connection = await super().connect(req, traces, timeout)
            handler = connection.protocol
            assert isinstance(handler, Handler)
            if trail.opening:
                handler.opened_at = self._monotonic()
            elif not self._may_serve(handler, trail):
                connection.close()
                continue
            handler.received_bytes = 0
            trail.handler = handler
            return connection

    def _may_serve(self, handler: Handler, trail: Trail) -> bool:
        """Whether an idle connection may be used: young, and nothing came on it that nobody asked for."""
        age = self._monotonic() - handler.opened_at
        return age < self._life_seconds and not trail.fresh_only and not handler.should_close


class _GuardedResolver(AbstractResolver):
    """Refuses a name if any of its addresses is forbidden: a mixed answer is an attack or a mistake."""

    def __init__(self, opened: Sequence[Network], lookup: Lookup | None) -> None:
        self._opened = opened
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS, "lookup")
        self._lookup = lookup or self._ask_system

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        addresses = await self._lookup(host)
        if not all(is_allowed(address, self._opened) for address in addresses):
            raise ForbiddenAddress(host)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in addresses
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask_system(self, host: str) -> Sequence[str]:
        ask = partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, ask)
        return [str(info[4][0]) for info in infos]


def _open_socket(opened: Sequence[Network], info: AddrInfoType) -> socket.socket:
    trail = TRAIL.get()
    family, kind, protocol, _, address = info
    if not is_allowed(str(address[0]), opened):
        # With several addresses aiohttp loses the error, so it is noted as well.
        trail.forbidden = True
        raise ForbiddenAddress(address[0])
    trail.opening = True
    return socket.socket(family, kind, protocol)
