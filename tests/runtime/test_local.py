"""`up` names a misconfigured stage, even while other stages stop slowly."""

import asyncio
from pathlib import Path

import pytest

from streams.core.errors import Misconfigured
from streams.runtime import local
from streams.runtime.bootstrap import SqlDeployment
from streams.telemetry import PrometheusTelemetry


class SlowSupervisor:
    """A supervisor with a misconfigured stage that still waits for the others."""

    is_running = False

    def __init__(self, *_: object) -> None:
        pass

    async def run(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        raise Misconfigured("record cannot start")


async def test_a_misconfigured_stage_is_named_after_a_slow_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "Supervisor", SlowSupervisor)
    deployment = SqlDeployment.from_environment({"SCORM_WEBHOOKS_DATA_DIR": str(tmp_path)})
    with pytest.raises(Misconfigured, match="record cannot start"):
        async with local.run_system(deployment, PrometheusTelemetry("up")):
            pass
    await deployment.database.close()
