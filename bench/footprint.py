"""Memory of a whole deployment: a process for each stage, and the small one."""

import urllib.request
from enum import StrEnum
from typing import Annotated

import typer

from bench.stack import running, stack_with_api
from streams.runtime.background import BACKGROUND_NAME, BACKGROUND_STAGES, SEPARATE_STAGE_REASONS


class Layout(StrEnum):
    """Which processes there are."""

    SMALL = "small"
    APART = "apart"


LAYOUTS = list(Layout)
PROCESSES = {
    Layout.SMALL: (*SEPARATE_STAGE_REASONS, BACKGROUND_NAME),
    Layout.APART: (*SEPARATE_STAGE_REASONS, *BACKGROUND_STAGES),
}


def footprint(
    layout: Annotated[list[Layout], typer.Option(help="The processes; may be repeated.")] = LAYOUTS,
    rate: Annotated[float, typer.Option(help="Events a second.")] = 20,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing.")] = 60,
) -> list[dict[str, object]]:
    """Memory of all processes together after some work, in MB: pages that processes share count once."""
    return [_measured(one, rate, seconds) for one in layout]


def _measured(layout: Layout, rate: float, seconds: float) -> dict[str, object]:
    with running(stack_with_api()) as stack:
        stack.start(PROCESSES[layout])
        accounts = [account for account, _ in stack.register([f"/ok/{number}" for number in range(10)])]
        count = stack.at_rate(rate, seconds, lambda number: stack.publish(f"evt_{number}", accounts[number % 10]))
        stack.wait_for(count, 60)
        stack.wait_for_record(count, 60)
        # The dashboard imports its templates at its first page.
        urllib.request.urlopen(stack.api_url, timeout=10).close()
        found = {stage: stack.shared_memory_mb(stage) for stage in PROCESSES[layout]}
        return stack.say(
            experiment="footprint",
            layout=str(layout),
            memory_mb_sum=round(sum(found.values())),
            memory_mb={stage: round(memory) for stage, memory in found.items()},
            events=count,
        )
