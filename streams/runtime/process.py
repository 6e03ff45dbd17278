"""Run a stage as a process, with probes, signals and a drain."""

import asyncio
import gc
import os
import platform
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib.metadata import version
from typing import Protocol

from prometheus_client import CollectorRegistry

from streams.ports import Telemetry
from streams.runtime.health_server import serving

# Reference counts free nearly everything. With the default thresholds, the search for cycles among thousands of records
# took a third of a busy stage's time.
GARBAGE_THRESHOLDS = (50_000, 20, 20)
LOOP_LAG_SECONDS = 15.0
LOOP_LAG_EVERY_SECONDS = 0.5
READINESS_EVERY_SECONDS = 0.5


class Runnable(Protocol):
    """What a process runs, until it is cancelled or fails."""

    async def run(self) -> None: ...

    async def drain(self) -> None:
        """Accept nothing new, finish what has begun, and commit it.

        Raises `TimeoutError` when that takes too long. What is complete is committed before.
        """

    def readiness_problems(self) -> list[str]:
        """Why it cannot work at the moment. Empty when it can."""


# Waits for what a stage needs, then makes the stage. Its argument takes the reason for each wait.
Prepare = Callable[[Callable[[str], None]], Awaitable[Runnable]]


class _Stage:
    """A stage from its start. It is not ready until it is made."""

    def __init__(self, prepare: Prepare) -> None:
        self._prepare = prepare
        self._waits_for = "is starting"
        self._stage: Runnable | None = None

    @property
    def is_made(self) -> bool:
        return self._stage is not None

    async def run(self) -> None:
        self._stage = await self._prepare(self._note)
        gc.freeze()  # imported modules are never freed
        await self._stage.run()

    async def drain(self) -> None:
        if self._stage:
            await self._stage.drain()

    def readiness_problems(self) -> list[str]:
        return self._stage.readiness_problems() if self._stage else [self._waits_for]

    def _note(self, reason: str) -> None:
        self._waits_for = reason


async def run_process(
    prepare: Prepare,
    telemetry: Telemetry,
    registry: CollectorRegistry,
    listening: socket.socket,
    *,
    stop_seconds: float,
    until_stdin_closes: bool,
) -> None:
    """Run until SIGTERM or SIGINT, then drain. Raises what the stage raises.

    The socket `listening` serves the probes. `/healthz` answers before the stage is made, and `/readyz` says what the
    start waits for. A signal ends that wait at once. The process ends `stop_seconds` after the signal at the latest,
    even if no broker answers.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    if until_stdin_closes:
        _watch_stdin(stopping.set)

    stage = _Stage(prepare)

    async def readiness_problems() -> list[str]:
        return stage.readiness_problems()

    async with serving(listening, readiness_problems, registry) as bound:
        telemetry.info("started", health_port=bound)
        telemetry.gauge("build_info", 1, version=version("scorm-webhooks"), python=platform.python_version())
        running = asyncio.create_task(stage.run())
        watching = asyncio.gather(_report_readiness(stage, telemetry), _report_loop_lag(telemetry))
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        watching.cancel()
        if not running.done() and stage.is_made:
            telemetry.info("draining")
            _end_in_time(telemetry, stop_seconds)
            try:
                await stage.drain()
                telemetry.info("drained")
            except TimeoutError as cut:
                effect = "what is not finished is handled again by the next process"
                telemetry.warning("drain_timed_out", why=str(cut) or None, effect=effect)
        running.cancel()
        waiting.cancel()
        await asyncio.gather(watching, waiting, return_exceptions=True)
        with suppress(asyncio.CancelledError):
            await running
        telemetry.info("stopped")


def _end_in_time(telemetry: Telemetry, seconds: float) -> None:
    """End the process in `seconds`. A client cannot stop waiting for a last commit while its broker is away."""

    def end() -> None:
        telemetry.warning("stop_timed_out", effect="uncommitted records are handled again by the next process")
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


async def _report_readiness(stage: _Stage, telemetry: Telemetry) -> None:
    logged: list[str] = []
    while True:
        readiness_problems = stage.readiness_problems()
        telemetry.gauge("ready", 0 if readiness_problems else 1)
        if readiness_problems != logged:
            telemetry.info("not_ready" if readiness_problems else "ready", why="; ".join(readiness_problems) or None)
            logged = readiness_problems
        await asyncio.sleep(READINESS_EVERY_SECONDS)


async def _report_loop_lag(telemetry: Telemetry) -> None:
    """Measure how late the event loop is, and report the longest delay of the last 15 seconds."""
    loop = asyncio.get_running_loop()
    delays: deque[float] = deque(maxlen=round(LOOP_LAG_SECONDS / LOOP_LAG_EVERY_SECONDS))
    while True:
        started = loop.time()
        await asyncio.sleep(LOOP_LAG_EVERY_SECONDS)
        delays.append(loop.time() - started - LOOP_LAG_EVERY_SECONDS)
        telemetry.gauge("event_loop_lag_seconds", max(0.0, *delays))


def _watch_stdin(stop: Callable[[], None]) -> None:
    """Stop when standard input closes. The supervisor holds the other end, so that its children end with it."""
    descriptor = sys.stdin.fileno()

    def readable() -> None:
        if not os.read(descriptor, 1024):
            asyncio.get_running_loop().remove_reader(descriptor)
            stop()

    asyncio.get_running_loop().add_reader(descriptor, readable)
