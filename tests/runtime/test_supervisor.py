"""The supervisor reserves the ports of its stages, and names a misconfigured stage."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from fakes import FakeTelemetry
from streams.core.errors import Misconfigured
from streams.runtime.supervisor import Supervisor, causes_with_stages

SECONDS = 60.0
OURS = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "SCORM_", "DATABASE_"))}
# No broker listens there, so the stage waits.
NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


async def test_the_health_port_is_open_before_the_stage_starts(tmp_path: Path) -> None:
    supervisor = Supervisor(["deliver"], {**isolated_in(tmp_path), **NOWHERE}, FakeTelemetry(), SECONDS, tmp_path)
    supervising = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(SECONDS):
            while not supervisor.children or not supervisor.children["deliver"].health_port:
                await asyncio.sleep(0)
        _, connection = await asyncio.open_connection("127.0.0.1", supervisor.children["deliver"].health_port)
        connection.close()
    finally:
        supervising.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervising


async def test_a_misconfigured_stage_is_named_with_its_reason(tmp_path: Path) -> None:
    supervisor = Supervisor(["deliver"], isolated_in(tmp_path), FakeTelemetry(), SECONDS, tmp_path)
    with pytest.raises(Misconfigured, match="deliver cannot start: KAFKA_BOOTSTRAP_SERVERS is not set"):
        await asyncio.wait_for(supervisor.run(), SECONDS)


async def test_a_misconfigured_stage_is_named_without_a_log_folder(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Misconfigured, match="deliver cannot start; its own line says what to set"):
        await asyncio.wait_for(Supervisor(["deliver"], isolated_in(tmp_path), FakeTelemetry(), SECONDS).run(), SECONDS)
    assert '"why": "KAFKA_BOOTSTRAP_SERVERS is not set' in capfd.readouterr().err


def isolated_in(folder: Path) -> dict[str, str]:
    """An environment that finds no broker of another `scorm-webhooks up`."""
    return {**OURS, "SCORM_WEBHOOKS_DATA_DIR": str(folder)}


def test_a_cause_of_several_processes_is_named_once() -> None:
    lines = {"deliver": ["no broker answers", "a topic is missing"], "record": ["no broker answers"]}
    background = {"background": ["publish, meter: no broker answers", "is starting"]}
    assert causes_with_stages({**lines, **background}) == [
        "deliver, record, publish, meter: no broker answers",
        "deliver: a topic is missing",
        "background: is starting",
    ]
