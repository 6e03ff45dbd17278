"""Runs a command beside an API in the same process."""

import asyncio

from typer.testing import CliRunner, Result

from streams.cli.app import app


async def run(*arguments: str, answer: str = "") -> Result:
    """Run a command in a thread; it starts its own event loop."""
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, input=answer)
