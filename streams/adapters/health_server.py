"""A small HTTP port for probes and metrics."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


@asynccontextmanager
async def serving(
    listening: socket.socket, troubles: Callable[[], Awaitable[list[str]]], registry: CollectorRegistry
) -> AsyncIterator[int]:
    """Serve `/healthz` (the process), `/readyz` (503 naming what is missing) and `/metrics`; yields the port."""

    async def healthz(request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        missing = await troubles()
        return web.Response(text="".join(f"{line}\n" for line in missing) or "ready\n", status=503 if missing else 200)

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
