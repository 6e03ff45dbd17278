"""uvicorn's configuration for an application that faces strangers."""

from typing import Any

import uvicorn
from starlette.types import ASGIApp

from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.protocol import LimitedHttpProtocol


def server_config(
    app: ASGIApp, connection_limits: ConnectionLimits, connection_observer: ConnectionObserver, **options: Any
) -> uvicorn.Config:
    """The configuration; `options` are uvicorn's own."""

    class Protocol(LimitedHttpProtocol):
        limits = connection_limits
        observer = connection_observer

    return uvicorn.Config(
        app,
        http=Protocol,
        # No route takes a WebSocket, and uvicorn's protocol for it has limits of its own.
        ws="none",
        timeout_keep_alive=connection_limits.idle_seconds,  # type: ignore[arg-type]  # it only reaches call_later
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        **options,
    )
