"""One child process a stage: started again when it ends, ended when its supervisor does."""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from streams.core.errors import Misconfigured
from streams.ports import Telemetry

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
# One that has run for so long is not the victim of a loop of crashes.
SETTLED_SECONDS = 60.0
STOP_SECONDS = 20.0
EXIT_MISCONFIGURED = 2


@dataclass(slots=True)
class Child:
    """One stage's process, as it is at the moment."""

    stage: str
    port: int = 0
    restarts: int = 0
    process: asyncio.subprocess.Process | None = None


@dataclass(slots=True)
class Supervisor:
    """Runs `stages` with `environ`; their output goes to `logs` (a folder), else where ours goes.

    Each gets `options` on its command line.
    """

    stages: Sequence[str]
    environ: Mapping[str, str]
    telemetry: Telemetry
    logs: Path | None = None
    options: Sequence[str] = ()
    children: dict[str, Child] = field(default_factory=dict)
    _stopping: bool = False

    async def run(self) -> None:
        """Supervise until cancelled, then stop all. Raises `Misconfigured` when a stage says that it is."""
        self.children = {stage: Child(stage) for stage in self.stages}
        keeping = [asyncio.create_task(self._keep(child)) for child in self.children.values()]
        try:
            done, _ = await asyncio.wait(keeping, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        finally:
            self._stopping = True
            await asyncio.shield(self._stop(keeping))

    @property
    def is_running(self) -> bool:
        """False once a stage could not be started at all."""
        return not self._stopping

    async def readiness_problems(self) -> list[str]:
        """What keeps any stage from working; empty when all can."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as session:
            responses = await asyncio.gather(*(_ask(session, child) for child in self.children.values()))
        return [
            f"{child.stage}: {message}"
            for child, message in zip(self.children.values(), responses, strict=True)
            if message
        ]

    async def _keep(self, child: Child) -> None:
        backoff = FIRST_BACKOFF_SECONDS
        while not self._stopping:
            started = time.monotonic()
            code = await self._run_once(child)
            if self._stopping:
                return
            if code == EXIT_MISCONFIGURED:
                raise Misconfigured(f"{child.stage} cannot start{self._why(child)}")
            if time.monotonic() - started > SETTLED_SECONDS:
                backoff = FIRST_BACKOFF_SECONDS
            child.restarts += 1
            self.telemetry.info("stage ended; starting it again", stage=child.stage, code=code, after_seconds=backoff)
            await asyncio.sleep(backoff)
            backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)

    async def _run_once(self, child: Child) -> int:
        # The child inherits it: a port that is only chosen here somebody else could take before the child listens.
        listening = socket.create_server(("127.0.0.1", 0))
        child.port = listening.getsockname()[1]
        output = (self.logs / f"{child.stage}.log").open("ab") if self.logs else None
        try:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streams",
                child.stage,
                "--health-fd",
                str(listening.fileno()),
                *self.options,
                env=self.environ,
                pass_fds=[listening.fileno()],
                # The other end is ours alone: if we die, however we die, the child reads the end and stops.
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                # Ctrl-C reaches the whole group of a terminal; it is for us to pass on, in order.
                start_new_session=True,
            )
        finally:
            listening.close()
            if output:
                output.close()
        return await child.process.wait()

    def _why(self, child: Child) -> str:
        if self.logs is None:
            return "; its own line says what to set"
        said = (self.logs / f"{child.stage}.log").read_text(errors="replace").splitlines()
        return ": " + said[-1].removeprefix("error: ") if said else ""

    async def _stop(self, keeping: Sequence["asyncio.Task[None]"]) -> None:
        running = [
            child.process for child in self.children.values() if child.process and child.process.returncode is None
        ]
        for process in running:
            process.send_signal(signal.SIGTERM)
        if running:
            await asyncio.wait([asyncio.ensure_future(process.wait()) for process in running], timeout=STOP_SECONDS)
        for process in running:
            if process.returncode is None:
                process.kill()
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)


async def _ask(session: aiohttp.ClientSession, child: Child) -> str:
    try:
        async with session.get(f"http://127.0.0.1:{child.port}/readyz") as response:
            text = await response.text()
            return "" if response.status == 200 else "; ".join(text.splitlines())
    except (aiohttp.ClientError, TimeoutError):
        return "is starting"
