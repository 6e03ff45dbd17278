"""Limits for the connections of an HTTP server, and the callbacks that observe them."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of an HTTP server's connections. Sizes count bytes as the client sends them, times are seconds.

    `reserve` more connections are accepted, so that refused requests can be counted for their client.
    """

    connections: int = 500
    reserve: int = 32
    header_bytes: int = 64 * 1024
    header_lines: int = 100
    # The application takes 1 MiB; the rest is for chunk sizes and trailers, which it never sees.
    body_bytes: int = 2 * 1024 * 1024
    pipelined_requests: int = 10
    header_seconds: float = 10
    body_seconds: float = 30
    idle_seconds: float = 15
    write_seconds: float = 30
    linger_seconds: float = 2


@dataclass(frozen=True, slots=True)
class ConnectionObserver:
    """`on_close` takes the reason of each connection that a limit closes, `on_count` the number of open connections."""

    on_close: Callable[[str], None] = lambda reason: None
    on_count: Callable[[int], None] = lambda count: None
