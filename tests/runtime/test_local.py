"""What `up` makes of a stage that cannot start, while the others take their time to stop."""

import asyncio
from pathlib import Path

import pytest

from streams.core.errors import Misconfigured
from streams.runtime import local
from streams.runtime.bootstrap import SqlDeployment
from streams.telemetry import PrometheusTelemetry


class SlowToStop:
    """A supervisor that has met a misconfigured stage and still waits for the others."""

    is_running = False

    def __init__(self, *_: object) -> None:
        pass

    async def run(self) -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        raise Misconfigured("record cannot start")


async def test_a_stage_that_cannot_start_is_told_though_the_others_take_time_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "Supervisor", SlowToStop)
    deployment = SqlDeployment.from_environment({"SCORM_WEBHOOKS_DATA_DIR": str(tmp_path)})
    with pytest.raises(Misconfigured, match="record cannot start"):
        async with local.system(deployment, PrometheusTelemetry("up")):
            pass
    await deployment.database.close()
