"""A stage's process says whether its drain finished."""

import asyncio
import gc
import os
import signal
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry

from fakes import FakeTelemetry
from streams.runtime import process as process_module
from streams.runtime.process import run_process
from streams.runtime.running_stage import Runnable, RunningStage
from streams.runtime.sockets import listen


class StageThatDrains:
    """A stage that gets SIGTERM as soon as it runs; `drain_error` is what its drain raises."""

    def __init__(self, drain_error: Exception | None) -> None:
        self._drain_error = drain_error

    async def run(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()

    async def drain(self) -> None:
        if self._drain_error:
            raise self._drain_error

    def readiness_problems(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("error", "expected"), [(None, "drained"), (TimeoutError("records not finished: 2"), "drain_timed_out")]
)
async def test_a_cut_drain_is_logged(error: Exception | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "_exit_after", lambda *_: None)
    monkeypatch.setattr(process_module, "GARBAGE_THRESHOLDS", gc.get_threshold())
    telemetry = FakeTelemetry()

    async def prepare(telemetry: FakeTelemetry, note: Callable[[str], None]) -> Runnable:
        return StageThatDrains(error)

    await run_process(
        [RunningStage(prepare, telemetry)],
        telemetry,
        CollectorRegistry(),
        listen("127.0.0.1", 0, "HEALTH"),
        stop_seconds=25,
        ends_with_stdin=False,
    )
    drains = [(event, fields.get("why")) for event, fields in telemetry.logged if event.startswith("drain")]
    assert drains == [("draining", None), (expected, str(error) if error else None)]
