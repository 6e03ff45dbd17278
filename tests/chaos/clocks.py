"""A stage whose machine has a wrong clock."""

import time
from collections.abc import Sequence
from pathlib import Path

from chaos.checker import read_receipts
from chaos.scenario import ScenarioRun
from e2e.system import until

WRONG_CLOCK = Path(__file__).with_name("wrong_clock")


def wrong(scenario_run: ScenarioRun, cases: Sequence[tuple[str, int]], seconds: float) -> None:
    """A clock minutes fast or slow: the stage is not ready and does nothing."""
    for stage, offset in cases:
        _set_clock(scenario_run, stage, offset, seconds)


def _set_clock(scenario_run: ScenarioRun, stage: str, offset: int, seconds: float) -> None:
    fake = {"PYTHONPATH": str(WRONG_CLOCK), "WRONG_CLOCK_SECONDS": str(offset)}
    assert scenario_run.supervisor.stop(stage) == 0
    before, sent = scenario_run.supervisor.progress(stage), len(read_receipts(scenario_run.loaded.folder))
    scenario_run.supervisor.start(stage, **fake)
    message = f"clock is {'+' if offset > 0 else '-'}"
    until(lambda: message in scenario_run.loaded.system.problem(stage), 30, f"{stage} reports the wrong clock")
    scenario_run.hold_for(seconds)
    assert message in scenario_run.loaded.system.problem(stage)
    assert scenario_run.supervisor.progress(stage) == before, f"{stage} continued"
    if stage == "deliver":
        assert len(read_receipts(scenario_run.loaded.folder)) == sent, "requests were sent"
    assert scenario_run.supervisor.stop(stage) == 0
    at = time.time()
    scenario_run.supervisor.start(stage)
    scenario_run.await_progress(stage, before, at)
