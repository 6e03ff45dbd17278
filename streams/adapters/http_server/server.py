"""Configure uvicorn for an application on the public internet."""

from typing import Any, ClassVar

import uvicorn
from starlette.types import ASGIApp

from streams.adapters.http_server.connection_limits import ConnectionLimits, ConnectionObserver
from streams.adapters.http_server.protocol import LimitedHttpProtocol


def server_config(
    app: ASGIApp, connection_limits: ConnectionLimits, connection_observer: ConnectionObserver, **options: Any
) -> uvicorn.Config:
    """uvicorn's configuration with our limits. `options` are uvicorn's own."""

    class Protocol(LimitedHttpProtocol):
        limits = connection_limits
        observer = connection_observer
        waiting_for_client: ClassVar[dict[LimitedHttpProtocol, None]] = {}

    return uvicorn.Config(
        app,
        http=Protocol,
        # No route accepts a WebSocket, and uvicorn's WebSocket protocol has none of our limits.
        ws="none",
        timeout_keep_alive=connection_limits.idle_seconds,  # type: ignore[arg-type]  # call_later takes a float
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        proxy_headers=False,
        **options,
    )
