"""Serve probes and metrics by HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

# A probe or a scrape takes milliseconds. Each connection serves one request.
CONNECTION_SECONDS = 15.0
CONNECTIONS = 32


class _Connection(web.RequestHandler):
    """A connection with a time limit, which aiohttp does not have.

    When there are too many, the oldest connection ends, so that idle connections do not block probes.
    """

    __slots__ = ("_timer",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        # uvloop's transports are not subclasses of asyncio's.
        self._timer = self._loop.call_later(CONNECTION_SECONDS, cast(asyncio.Transport, transport).abort)
        open_ones = self._manager.connections if self._manager else []
        for oldest in open_ones[: max(0, len(open_ones) - CONNECTIONS)]:
            if oldest.transport is not None:
                oldest.transport.abort()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)


async def _close_after_response(request: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Connection"] = "close"


@asynccontextmanager
async def serving(
    listening: socket.socket, readiness_problems: Callable[[], Awaitable[list[str]]], registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Serve `/healthz`, `/readyz` (503 with what is missing) and `/metrics` during the block. Yields the port."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        missing = await readiness_problems()
        return web.Response(text="".join(f"{line}\n" for line in missing) or "ready\n", status=503 if missing else 200)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    app.on_response_prepare.append(_close_after_response)
    runner = web.AppRunner(app)
    await runner.setup()
    manager, loop = runner.server, asyncio.get_running_loop()
    assert manager is not None
    server = await loop.create_server(lambda: _Connection(manager, loop=loop, access_log=None), sock=listening)  # type: ignore[arg-type]
    try:
        yield int(listening.getsockname()[1])
    finally:
        server.close()
        await runner.cleanup()
