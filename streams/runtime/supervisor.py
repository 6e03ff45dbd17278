"""Run each stage in a child process. Restart it if it ends, and end it with the supervisor."""

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from streams.core.errors import Misconfigured
from streams.ports.runtime import Telemetry
from streams.runtime.background import BACKGROUND_NAME, RUN_BACKGROUND_ARGUMENTS
from streams.runtime.fatal_errors import MISCONFIGURED_EXIT_CODE
from streams.runtime.readiness import group_by_cause

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
# A crash after this time is not part of a crash loop.
STABLE_AFTER_SECONDS = 60.0
METRICS_TIMEOUT_SECONDS = 2.0


@dataclass(slots=True)
class Child:
    """One process; `name` is its name in logs and problems."""

    name: str
    health_port: int = 0
    restart_count: int = 0
    process: asyncio.subprocess.Process | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs `stages`, and `BACKGROUND` if it is among them, with `environ` and `child_options` on the command line.

    If several processes run one stage, `stages` has a name for each, and `stage_of` knows the stage of a name.

    Their output goes to the folder `log_dir`, or to this process's output. A child that does not end is killed
    `kill_seconds` after SIGTERM.
    """

    stages: Sequence[str]
    environ: Mapping[str, str]
    telemetry: Telemetry
    kill_seconds: float
    log_dir: Path | None = None
    child_options: Sequence[str] = ()
    stage_of: Callable[[str], str] = lambda name: name
    children: dict[str, Child] = field(default_factory=dict)
    _is_stopping: bool = False

    async def run(self) -> None:
        """Run until cancelled, then stop all children. Raises `Misconfigured` if a stage is misconfigured."""
        self.children = {stage: Child(stage) for stage in self.stages}
        supervision_tasks = [asyncio.create_task(self._supervise(child)) for child in self.children.values()]
        try:
            finished_tasks, _ = await asyncio.wait(supervision_tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in finished_tasks:
                await task
        finally:
            self._is_stopping = True
            await asyncio.shield(self._stop_children(supervision_tasks))

    @property
    def is_running(self) -> bool:
        """False after a stage proved to be misconfigured."""
        return not self._is_stopping

    async def readiness_problems(self) -> list[str]:
        """Why some stages cannot work at the moment, each cause once. Empty if all can."""
        return causes_with_stages(await self.problems())

    async def problems(self) -> dict[str, list[str]]:
        """The problems of each process that is not ready, by its name."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            children = list(self.children.values())
            responses = await asyncio.gather(*(_request_problems(session, child) for child in children))
        return {child.name: lines for child, lines in zip(children, responses, strict=True) if lines}

    async def metrics(self) -> dict[str, str]:
        """The metrics of every process that responds, by its name."""
        # A process that does not respond must not cost the others' scrape: Prometheus waits ten seconds for all.
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=METRICS_TIMEOUT_SECONDS)) as session:
            children = list(self.children.values())
            texts = await asyncio.gather(*(_request_metrics(session, child) for child in children))
        return {child.name: text for child, text in zip(children, texts, strict=True) if text}

    async def _supervise(self, child: Child) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._is_stopping:
            started_at = time.monotonic()
            exit_code = await self._run_child(child)
            if self._is_stopping:
                return
            if exit_code == MISCONFIGURED_EXIT_CODE:
                raise Misconfigured(f"{child.name} cannot start{self._misconfiguration_message(child)}")
            if time.monotonic() - started_at > STABLE_AFTER_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            child.restart_count += 1
            self.telemetry.warning("stage_ended", child=child.name, code=exit_code, restart_after_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, MAX_BACKOFF_SECONDS)

    async def _run_child(self, child: Child) -> int:
        # The child inherits the socket: another process could take a port that is only chosen here.
        health_socket = socket.create_server(("127.0.0.1", 0))
        child.health_port = health_socket.getsockname()[1]
        output = (self.log_dir / f"{child.name}.log").open("ab") if self.log_dir else None
        try:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streams",
                *(RUN_BACKGROUND_ARGUMENTS if child.name == BACKGROUND_NAME else (self.stage_of(child.name),)),
                "--health-fd",
                str(health_socket.fileno()),
                *self.child_options,
                env=self.environ,
                pass_fds=[health_socket.fileno()],
                # The child stops when this pipe closes, which it does even when this process is killed.
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches the whole process group of a terminal. This process stops the children itself.
                start_new_session=True,
            )
        finally:
            health_socket.close()
            if output:
                output.close()
        return await child.process.wait()

    def _misconfiguration_message(self, child: Child) -> str:
        if self.log_dir is None:
            return "; its own line says what to set"
        lines = (self.log_dir / f"{child.name}.log").read_text(errors="replace").splitlines()
        return f": {_parse_message(lines[-1])}" if lines else ""

    async def _stop_children(self, supervision_tasks: Sequence["asyncio.Task[None]"]) -> None:
        running_processes = [
            child.process for child in self.children.values() if child.process and child.process.returncode is None
        ]
        for process in running_processes:
            process.send_signal(signal.SIGTERM)
        if running_processes:
            await asyncio.wait(
                [asyncio.ensure_future(process.wait()) for process in running_processes], timeout=self.kill_seconds
            )
        for process in running_processes:
            if process.returncode is None:
                process.kill()
        for task in supervision_tasks:
            task.cancel()
        await asyncio.gather(*supervision_tasks, return_exceptions=True)


def _parse_message(line: str) -> str:
    """The reason in the last line of a process: a JSON line, or `error: …` on a console."""
    try:
        return str(json.loads(line)["why"])
    except (ValueError, TypeError, LookupError):
        return line.removeprefix("error: ")


def causes_with_stages(problems: Mapping[str, Sequence[str]]) -> list[str]:
    """One line for each cause, with the stages that report it. Stages of `background` are named in its own lines."""
    stage_causes: list[tuple[str, str]] = []
    for child, lines in problems.items():
        for line in lines:
            stages, colon, cause = line.partition(": ") if child == BACKGROUND_NAME else ("", "", "")
            stage_causes += [(stage, cause) for stage in stages.split(", ")] if colon else [(child, line)]
    return group_by_cause(stage_causes)


async def _request_problems(session: aiohttp.ClientSession, child: Child) -> list[str]:
    try:
        async with session.get(f"http://127.0.0.1:{child.health_port}/readyz") as response:
            text = await response.text()
            return [] if response.status == 200 else text.splitlines()
    except (aiohttp.ClientError, TimeoutError):
        return ["is starting"]


async def _request_metrics(session: aiohttp.ClientSession, child: Child) -> str:
    with suppress(aiohttp.ClientError, TimeoutError):
        async with session.get(f"http://127.0.0.1:{child.health_port}/metrics") as response:
            return await response.text()
    return ""
