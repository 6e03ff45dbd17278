"""Run a stage, or several, as a process, with probes, signals and a drain."""

import asyncio
import gc
import os
import platform
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from prometheus_client import CollectorRegistry

from streams.build import build_version
from streams.ports.runtime import Telemetry
from streams.runtime.health_server import serve_health
from streams.runtime.readiness import group_by_cause
from streams.runtime.running_stage import RunningStage
from streams.tasks import stop_signal

# Reference counting frees nearly everything. With the default thresholds, the search for cycles among thousands of
# records took a third of a busy stage's time.
GARBAGE_THRESHOLDS = (50_000, 20, 20)
LOOP_LAG_WINDOW_SECONDS = 15.0
LOOP_LAG_INTERVAL_SECONDS = 0.5
READINESS_INTERVAL_SECONDS = 0.5


async def run_process(
    stages: Sequence[RunningStage[Any]],
    telemetry: Telemetry,
    registry: CollectorRegistry,
    health_socket: socket.socket,
    *,
    stop_seconds: float,
    ends_with_stdin: bool,
    notes: Sequence[str] = (),
) -> None:
    """Run stages until SIGTERM or SIGINT, or until one ends, then drain them. Raises the exception of a stage.

    The socket `health_socket` serves the probes. `/healthz` responds before a stage is made, and `/readyz` says what
    the start waits for, and the `notes` afterwards. A signal ends that wait at once.
    The process ends within `stop_seconds` of the signal, even if no broker responds.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    stop_event = stop_signal()
    if ends_with_stdin:
        _watch_stdin(stop_event.set)

    async def readiness_problems() -> list[str]:
        return _readiness_problems(stages)

    async with serve_health(health_socket, readiness_problems, registry, notes) as health_port:
        telemetry.info("started", health_port=health_port)
        telemetry.gauge("build_info", 1, version=build_version(), python=platform.python_version())
        stage_tasks = [asyncio.create_task(stage.run()) for stage in stages]
        reports = asyncio.gather(
            *(_report_readiness(stage) for stage in stages),
            _report_process(stages, telemetry),
            _report_loop_lag(telemetry),
            _freeze_imported_modules(stages),
        )
        stop_wait = asyncio.create_task(stop_event.wait())
        await asyncio.wait({*stage_tasks, stop_wait}, return_when=asyncio.FIRST_COMPLETED)
        reports.cancel()
        if any(stage.made_event.is_set() and not task.done() for stage, task in zip(stages, stage_tasks, strict=True)):
            _exit_after(telemetry, stop_seconds)
        await asyncio.gather(*map(_end_stage, stages, stage_tasks))
        stop_wait.cancel()
        await asyncio.gather(reports, stop_wait, return_exceptions=True)
        for task in stage_tasks:
            with suppress(asyncio.CancelledError):
                await task
        telemetry.info("stopped")


async def _end_stage(stage: RunningStage[Any], stage_task: "asyncio.Task[None]") -> None:
    """Drain a stage and end it. It does not wait for other stages, because another process may want its lease."""
    if not stage_task.done():
        await stage.drain()
    stage_task.cancel()
    await asyncio.gather(stage_task, return_exceptions=True)


def _readiness_problems(stages: Sequence[RunningStage[Any]]) -> list[str]:
    return group_by_cause((stage.name, problem) for stage in stages for problem in stage.readiness_problems())


async def _freeze_imported_modules(stages: Sequence[RunningStage[Any]]) -> None:
    """Freeze modules once all stages are made, because imported modules are never freed."""
    for stage in stages:
        await stage.made_event.wait()
    gc.freeze()


def _exit_after(telemetry: Telemetry, seconds: float) -> None:
    """End the process in `seconds`. A client cannot stop waiting for a last commit while its broker is away."""

    def exit_process() -> None:
        telemetry.warning("stop_timed_out", effect="uncommitted records are handled again by the next process")
        os._exit(1)

    timer = threading.Timer(seconds, exit_process)
    timer.daemon = True
    timer.start()


async def _report_readiness(stage: RunningStage[Any]) -> None:
    logged_problems: list[str] = []
    while True:
        problems = stage.readiness_problems()
        stage.telemetry.gauge("ready", 0 if problems else 1)
        if problems != logged_problems:
            stage.telemetry.info("not_ready" if problems else "ready", why="; ".join(problems) or None)
            logged_problems = problems
        await asyncio.sleep(READINESS_INTERVAL_SECONDS)


async def _report_process(stages: Sequence[RunningStage[Any]], telemetry: Telemetry) -> None:
    while True:
        telemetry.gauge("ready", 0 if _readiness_problems(stages) else 1)
        await asyncio.sleep(READINESS_INTERVAL_SECONDS)


async def _report_loop_lag(telemetry: Telemetry) -> None:
    """Measure how late the event loop is, and report the longest delay of the last 15 seconds."""
    loop = asyncio.get_running_loop()
    delays: deque[float] = deque(maxlen=round(LOOP_LAG_WINDOW_SECONDS / LOOP_LAG_INTERVAL_SECONDS))
    while True:
        started_at = loop.time()
        await asyncio.sleep(LOOP_LAG_INTERVAL_SECONDS)
        delays.append(loop.time() - started_at - LOOP_LAG_INTERVAL_SECONDS)
        telemetry.gauge("event_loop_lag_seconds", max(0.0, *delays))


def _watch_stdin(stop: Callable[[], None]) -> None:
    """Stop when standard input closes. The supervisor holds the other end, so that its children end with it."""
    descriptor = sys.stdin.fileno()

    def on_readable() -> None:
        if not os.read(descriptor, 1024):
            asyncio.get_running_loop().remove_reader(descriptor)
            stop()

    asyncio.get_running_loop().add_reader(descriptor, on_readable)
