"""What a supervisor promises its stages' users: a port that nobody else can take, and why one cannot start."""

import asyncio
import contextlib
import os
from pathlib import Path

import pytest

from fakes import FakeTelemetry
from streams.core.errors import Misconfigured
from streams.runtime.supervisor import Supervisor

SECONDS = 60.0
OURS = {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "SCORM_", "DATABASE_"))}
# Nobody answers there, so the stage waits for it.
NOWHERE = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}


async def test_the_health_port_of_a_stage_is_taken_before_the_stage_starts(tmp_path: Path) -> None:
    supervisor = Supervisor(["deliver"], {**alone_in(tmp_path), **NOWHERE}, FakeTelemetry(), tmp_path)
    supervising = asyncio.create_task(supervisor.run())
    try:
        async with asyncio.timeout(SECONDS):
            while not supervisor.children or not supervisor.children["deliver"].port:
                await asyncio.sleep(0)
        _, connection = await asyncio.open_connection("127.0.0.1", supervisor.children["deliver"].port)
        connection.close()
    finally:
        supervising.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await supervising


async def test_a_stage_that_cannot_start_is_named_with_its_own_words_where_they_went_to_a_file(tmp_path: Path) -> None:
    supervisor = Supervisor(["deliver"], alone_in(tmp_path), FakeTelemetry(), tmp_path)
    with pytest.raises(Misconfigured, match="deliver cannot start: KAFKA_BOOTSTRAP_SERVERS is not set"):
        await asyncio.wait_for(supervisor.run(), SECONDS)


async def test_a_stage_that_cannot_start_is_named_where_it_speaks_for_itself(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(Misconfigured, match="deliver cannot start; its own line says what to set"):
        await asyncio.wait_for(Supervisor(["deliver"], alone_in(tmp_path), FakeTelemetry()).run(), SECONDS)
    assert "error: KAFKA_BOOTSTRAP_SERVERS is not set" in capfd.readouterr().err


def alone_in(folder: Path) -> dict[str, str]:
    """No `scorm-webhooks up` of somebody else is found, whose broker this would be."""
    return {**OURS, "SCORM_WEBHOOKS_DATA_DIR": str(folder)}
