"""A POST and its answer, over a connection that was kept or is opened for it."""

import re
from collections.abc import Callable, Collection
from functools import cached_property
from typing import cast

from aiohttp import ClientConnectionError, ClientRequest
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from yarl import URL

from streams.adapters.http.connector import ConnectTrace, GuardedConnector
from streams.adapters.http.idle_connections import IdleConnections
from streams.adapters.http.response_parser import EndpointConnection
from streams.core.errors import Unavailable
from streams.core.headers import is_connection_header
from streams.core.outcome import Response
from streams.core.request import Request

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 §5.6.2
# A customer's gateway may want others. Without the second one, any compression would be acceptable.
_DEFAULTS = {"accept": "Accept: */*\r\n", "accept-encoding": "Accept-Encoding: identity\r\n"}


class _Dial(ClientRequest):
    """What aiohttp's connector has to know of a URL; its key to the pool is made once and not for each request."""

    @cached_property
    def connection_key(self) -> ConnectionKey:
        return super().connection_key


class Target:
    """Where a URL leads: how aiohttp's connector knows it, and how each request to it begins. Needs a running loop."""

    def __init__(self, url: URL) -> None:
        self.dial = _Dial("POST", url)
        self.begins = f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {self.dial.headers['Host']}\r\n"


class PostExchange:
    """Asks endpoints by POST, each over a connection that nobody else uses meanwhile.

    aiohttp opens and checks connections, llhttp parses; aiohttp's session and pool, which do anew for each request what
    is known already, cost more than all of that (decision 0002). No connection serves attempts that begin after
    `life_seconds`, and no more than `most_connections` are open.
    """

    def __init__(
        self,
        connector: GuardedConnector,
        life_seconds: float,
        monotonic: Callable[[], float],
        most_connections: int,
    ) -> None:
        self._connector = connector
        self._idle = IdleConnections(life_seconds, monotonic)
        self._monotonic = monotonic
        self._most_connections = most_connections
        self._in_use = 0

    async def ask(self, target: Target, request: Request, trail: ConnectTrace) -> Response:
        """Send the request's bytes as they are. Returns as much of the response as `EndpointConnection` keeps.

        Raises what aiohttp and `EndpointConnection` raise, ValueError for a header that would change where a request
        ends, and `Unavailable` when all connections are in use.
        """
        message = _head(target, request) + request.body
        key = target.dial.connection_key
        if (connection := self._idle.take(key)) is not None:
            try:
                return await self._ask(key, connection, message, trail)
            except ClientConnectionError:
                if trail.handler is None or trail.handler.received_bytes:
                    raise
                # The endpoint had closed the idle connection as it may; that is no failure of its.
                self._idle.forget(key)
                trail.handler = None
        self._make_room()
        connection = await self._open(target, trail)
        cast(EndpointConnection, connection.protocol).opened_at = self._monotonic()
        return await self._ask(key, connection, message, trail)

    async def _open(self, target: Target, trail: ConnectTrace) -> Connection:
        self._in_use += 1
        try:
            return await self._connector.open(target.dial, trail)
        finally:
            self._in_use -= 1

    def _make_room(self) -> None:
        """For one more connection."""
        if self._in_use >= self._most_connections:
            raise Unavailable(f"all {self._most_connections} connections that this process may open are in use")
        while self._idle.count and self._in_use + self._idle.count >= self._most_connections:
            self._idle.close_one()

    async def close(self) -> None:
        self._idle.close()
        await self._connector.close()

    async def _ask(self, key: ConnectionKey, connection: Connection, message: bytes, trail: ConnectTrace) -> Response:
        trail.handler = handler = cast(EndpointConnection, connection.protocol)
        self._in_use += 1
        try:
            return await handler.ask(message, trail.deadline)
        finally:
            self._in_use -= 1
            if handler.may_be_asked_again:
                self._idle.keep(key, connection)
            else:
                # What is left of the answer, or of a request that was answered early, would be in the next one's way.
                connection.close()


def _head(target: Target, request: Request) -> bytes:
    """The request line and all headers.

    Connections to a host are shared by its customers: nobody may make his request swallow the next one.
    """
    defaults: Collection[str] = _DEFAULTS.values()
    if request.private:
        for name in request.private:
            if not _TOKEN.fullmatch(name) or is_connection_header(name):
                raise ValueError(f"the header {name} cannot be set by a webhook")
        theirs = {name.lower() for name in request.private}
        defaults = [line for name, line in _DEFAULTS.items() if name not in theirs]
    headers = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    text = f"{target.begins}{''.join(defaults)}{''.join(headers)}Content-Length: {len(request.body)}\r\n\r\n"
    # The request line, Host, Content-Length and the end.
    lines = 4 + len(defaults) + len(headers)
    if text.count("\n") != lines or text.count("\r") != lines or "\0" in text:
        raise ValueError("a header holds a line break or a null")
    return text.encode()
