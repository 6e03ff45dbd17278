"""Keep idle connections for the next request to the same host."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from streams.adapters.http.response_parser import EndpointConnection

IDLE_SECONDS = 5.0


class IdleConnections:
    """Idle connections by host. The most recently used one is taken first, so that surplus connections time out.

    After `max_life_seconds` a connection is not used again: otherwise keep-alive would hide a change of DNS.
    """

    def __init__(self, max_life_seconds: float, monotonic: Callable[[], float]) -> None:
        self._life_seconds = max_life_seconds
        self._monotonic = monotonic
        self._connections: dict[ConnectionKey, deque[tuple[Connection, float]]] = {}
        self.count = 0
        self._timer: asyncio.TimerHandle | None = None

    def take(self, key: ConnectionKey) -> Connection | None:
        """Take a connection that is open and not too old, or None."""
        idle, now = self._connections.get(key), self._monotonic()
        while idle:
            connection, since = idle.pop()
            self.count -= 1
            handler = cast(EndpointConnection, connection.protocol)
            if handler.is_open and since > now - IDLE_SECONDS and handler.opened_at > now - self._life_seconds:
                return connection
            connection.close()
        return None

    def add(self, key: ConnectionKey, connection: Connection) -> None:
        if (idle := self._connections.get(key)) is None:
            idle = self._connections[key] = deque()
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep)
        idle.append((connection, self._monotonic()))
        self.count += 1

    def close_one(self) -> None:
        """Close the oldest connection of the first host. There must be one."""
        key = next(key for key, idle in self._connections.items() if idle)
        self._close_oldest(self._connections[key])

    def _close_oldest(self, idle: deque[tuple[Connection, float]]) -> None:
        idle.popleft()[0].close()
        self.count -= 1

    def close_host(self, key: ConnectionKey) -> None:
        """Close the connections to this host, after one of them failed."""
        idle = self._connections.pop(key, deque())
        while idle:
            self._close_oldest(idle)

    def close(self) -> None:
        for key in [*self._connections]:
            self.close_host(key)
        if self._timer is not None:
            self._timer.cancel()

    def _sweep(self) -> None:
        idle_since = self._monotonic() - IDLE_SECONDS
        for key, idle in [*self._connections.items()]:
            while idle and idle[0][1] <= idle_since:
                self._close_oldest(idle)
            if not idle:
                del self._connections[key]
        timer = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._sweep) if self._connections else None
        self._timer = timer
