"""A stage within its process, from its start to its end."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from streams.ports.runtime import Telemetry
from streams.stages.lease import LeaseLost
from streams.tasks import run_until_first_ends


class Runnable(Protocol):
    """The work of a process, which runs until it is cancelled or fails."""

    async def run(self) -> None: ...

    async def drain(self) -> None:
        """Accept no new work, finish what has begun, and commit it.

        Raises `TimeoutError` if that takes too long. Completed work is committed before.
        """

    def readiness_problems(self) -> list[str]:
        """Why it cannot work at the moment. Empty if it can."""


async def _nothing_to_drain() -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A `Runnable` of parts: its `tasks` run until the first of them ends; then each of `closes` is called, in order.

    A close that fails hinders no other. Each of `problems` says why the stage cannot work at the moment.
    """

    tasks: Sequence[Callable[[], Awaitable[object]]]
    closes: Sequence[Callable[[], Awaitable[None]]]
    problems: Sequence[Callable[[], Sequence[str]]]
    drain: Callable[[], Coroutine[Any, Any, None]] = _nothing_to_drain

    async def run(self) -> None:
        async with AsyncExitStack() as at_end:
            for close in reversed(self.closes):
                at_end.push_async_callback(close)
            await run_until_first_ends(*self.tasks)

    def readiness_problems(self) -> list[str]:
        return [problem for problems in self.problems for problem in problems()]


AnyTelemetry = TypeVar("AnyTelemetry", bound=Telemetry)
# Waits for a stage's prerequisites, then makes it. The second argument takes the reason for each wait.
PrepareStage = Callable[[AnyTelemetry, Callable[[str], None]], Awaitable[Runnable]]


class RunningStage(Generic[AnyTelemetry]):
    """A stage from its start. It is not ready until it is made; `made_event` is set then.

    `name` is the stage's name in problems; the only stage of a process needs none.
    """

    def __init__(self, prepare_stage: PrepareStage[AnyTelemetry], telemetry: AnyTelemetry, name: str = "") -> None:
        self.name = name
        self.telemetry = telemetry
        self.made_event = asyncio.Event()
        self._prepare_stage = prepare_stage
        self._stage: Runnable | None = None
        self._start_problem = "is starting"

    async def run(self) -> None:
        self._stage = stage = await self._prepare_stage(self.telemetry, self._set_start_problem)
        self.made_event.set()
        await stage.run()

    async def drain(self) -> None:
        """Drain the stage, and log the result."""
        if self._stage is None:
            return
        self.telemetry.info("draining")
        try:
            await self._stage.drain()
            self.telemetry.info("drained")
        except TimeoutError as error:
            effect = "what is not finished is handled again by the next process"
            self.telemetry.warning("drain_timed_out", why=str(error) or None, effect=effect)

    def readiness_problems(self) -> list[str]:
        """The problems, each cause once."""
        return list(dict.fromkeys(self._stage.readiness_problems())) if self._stage else [self._start_problem]

    def _set_start_problem(self, reason: str) -> None:
        self._start_problem = reason


class GroupedStage(RunningStage[AnyTelemetry]):
    """A stage among others. If it loses its lease, it starts again with new metrics, and the others continue."""

    def __init__(
        self, name: str, prepare_stage: PrepareStage[AnyTelemetry], new_telemetry: Callable[[str], AnyTelemetry]
    ) -> None:
        super().__init__(prepare_stage, new_telemetry(name), name)
        self._new_telemetry = new_telemetry

    async def run(self) -> None:
        while True:
            try:
                await super().run()
            except LeaseLost as error:
                self.telemetry.warning("stage_restarted", why=str(error))
            except Exception as error:
                self.telemetry.error("stage_failed", why=str(error), effect="the process ends")
                raise
            # As after a restart of a process: this stage is no `publisher` any more, for example.
            self.telemetry = self._new_telemetry(self.name)
            self._stage, self._start_problem = None, "is starting again"
