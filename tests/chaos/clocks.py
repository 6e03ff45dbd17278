"""A stage whose machine has a wrong clock."""

import time
from collections.abc import Sequence
from pathlib import Path

from chaos.checker import read_receipts
from chaos.scenario import ScenarioRun
from e2e.system import until

WRONG_CLOCK = Path(__file__).with_name("wrong_clock")


def wrong(act: ScenarioRun, cases: Sequence[tuple[str, int]], seconds: float) -> None:
    """Minutes fast or slow: the stage is not ready, and does nothing."""
    for stage, offset in cases:
        _mislead(act, stage, offset, seconds)


def _mislead(act: ScenarioRun, stage: str, offset: int, seconds: float) -> None:
    fake = {"PYTHONPATH": str(WRONG_CLOCK), "WRONG_CLOCK_SECONDS": str(offset)}
    assert act.crew.stop(stage) == 0
    before, sent = act.crew.progress(stage), len(read_receipts(act.world.folder))
    act.crew.start(stage, **fake)
    message = f"clock is {'+' if offset > 0 else '-'}"
    until(lambda: message in act.world.system.problem(stage), 30, f"{stage} says that its clock is wrong")
    act.last(seconds)
    assert message in act.world.system.problem(stage)
    assert act.crew.progress(stage) == before, f"{stage} worked on"
    if stage == "deliver":
        assert len(read_receipts(act.world.folder)) == sent, "requests left"
    assert act.crew.stop(stage) == 0
    at = time.time()
    act.crew.start(stage)
    act.await_progress(stage, before, at)
