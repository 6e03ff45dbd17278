"""Runs a command beside an API in the same process."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.types import ASGIApp
from typer.testing import CliRunner, Result

from rest.api_fixture import ApiFixture
from streams.adapters.clock import SystemClock
from streams.cli.app import app


@asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on loopback; yields its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


async def run(*arguments: str, answer: str = "") -> Result:
    """Run a command in a thread; it starts its own event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, input=answer)


async def run_with_jobs(api: ApiFixture, *arguments: str, answer: str = "", account: str = "") -> Result:
    """Run a command that waits for its jobs, and do the jobs: all, or those of one account."""
    running = asyncio.create_task(run(*arguments, answer=answer))
    # Commands have the system's clock.
    api.clock.advance((SystemClock().now() - api.clock.now()).total_seconds())
    async with asyncio.timeout(20):
        while not running.done():
            for job in await api.jobs.list_unfinished(account[:-1]):
                await api.jobs.do_next_portion(job.id)
                api.clock.advance(1)
            await asyncio.sleep(0.01)
    return running.result()
