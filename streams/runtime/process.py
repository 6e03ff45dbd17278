"""Run a stage as a process: probes, signals, a drain, and an exit code that tells the truth."""

import asyncio
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from prometheus_client import CollectorRegistry

from streams.ports import Telemetry
from streams.runtime.health_server import serving

# Reference counts free nearly everything. By the interpreter's own thresholds thousands of records in hand are searched
# for cycles every few of them, which took a third of a busy stage's time.
GARBAGE_THRESHOLDS = (50_000, 20, 20)
# Less than the half minute after which Kubernetes kills: whoever leaves by itself can say why.
STOP_SECONDS = 25.0


class Startup(Protocol):
    """What must happen before a stage runs; the health port is served meanwhile."""

    async def prepare(self) -> "Runnable":
        """Wait for what the stage needs, then make the stage."""

    def readiness_problems(self) -> list[str]:
        """What it waits for."""


class Runnable(Protocol):
    """What a process runs: until cancelled, or until something unexpected ends it."""

    async def run(self) -> None: ...

    async def drain(self) -> None:
        """Take nothing new and finish what is in hand; may raise `TimeoutError` after 12 seconds."""

    def readiness_problems(self) -> list[str]:
        """Why it cannot work at the moment; empty when it can."""


class _Stage:
    """A stage from its start: not ready until it is made, then the stage itself."""

    def __init__(self, startup: Startup) -> None:
        self._startup = startup
        self._stage: Runnable | None = None

    @property
    def is_made(self) -> bool:
        return self._stage is not None

    async def run(self) -> None:
        self._stage = await self._startup.prepare()
        gc.freeze()  # what was imported stays
        await self._stage.run()

    async def drain(self) -> None:
        if self._stage:
            await self._stage.drain()

    def readiness_problems(self) -> list[str]:
        return (self._stage or self._startup).readiness_problems()


async def run_process(
    startup: Startup,
    telemetry: Telemetry,
    registry: CollectorRegistry,
    listening: socket.socket,
    *,
    until_stdin_closes: bool,
) -> None:
    """Serve until SIGTERM or SIGINT, with health on `listening`, then drain. Raises what the stage raised.

    `/healthz` answers before the stage is made; `/readyz` says what the start waits for. A signal ends that wait at
    once. The process ends `STOP_SECONDS` after the signal at the latest, even if no broker answers.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if until_stdin_closes:
        _watch_stdin(stopping.set)

    stage = _Stage(startup)

    async def readiness_problems() -> list[str]:
        return stage.readiness_problems()

    async with serving(listening, readiness_problems, registry) as bound:
        telemetry.info("started", health_port=bound)
        running = asyncio.create_task(stage.run())
        watching = asyncio.create_task(_keep_ready_gauge(stage, telemetry))
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        if not running.done() and stage.is_made:
            telemetry.info("draining")
            _end_in_time(telemetry)
            try:
                await stage.drain()
            except TimeoutError:
                telemetry.info("not all that is in hand could be finished; it is done again by whoever reads it next")
        running.cancel()
        waiting.cancel()
        await asyncio.gather(watching, waiting, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await running
        telemetry.info("stopped")


def _end_in_time(telemetry: Telemetry) -> None:
    """A broker that is away answers no last commit, and no client of it can be told to stop waiting for one."""

    def end() -> None:
        telemetry.info("whoever is away does not answer; ending without it: what is not committed is done again")
        os._exit(1)

    timer = threading.Timer(STOP_SECONDS, end)
    timer.daemon = True
    timer.start()


async def _keep_ready_gauge(stage: _Stage, telemetry: Telemetry) -> None:
    told: list[str] = []
    while True:
        readiness_problems = stage.readiness_problems()
        telemetry.gauge("ready", 0 if readiness_problems else 1)
        if readiness_problems != told:
            telemetry.info("not ready" if readiness_problems else "ready", why="; ".join(readiness_problems) or None)
            told = readiness_problems
        await asyncio.sleep(0.2)


def _watch_stdin(stop: Callable[[], None]) -> None:
    """A supervisor holds the other end: when it dies, however it dies, its children end as well."""
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 1024):
            asyncio.get_running_loop().remove_reader(descriptor)
            stop()

    asyncio.get_running_loop().add_reader(descriptor, readable)
