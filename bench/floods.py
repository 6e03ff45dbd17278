"""Floods: what 520 requests of one customer at once cost another customer."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from adversary.floods import FLOODS, Answers, Outcome, flood_process, make_customer, play
from bench.day import OPERATOR_KEY
from bench.sink import Sink
from bench.stack import WHOLE, percentile, running, say, stack_with_api
from e2e.system import System, until
from real.process import free_ports

_SETTINGS = {
    "SCORM_WEBHOOKS_OPERATOR_KEYS": f"bench={OPERATOR_KEY}",
    # A flood is what an account may send in a minute, so that its rate stops none of it.
    "SCORM_WEBHOOKS_RATE_LIMIT": "100000",
}


class StoreKind(StrEnum):
    """The database."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"


def floods(
    store: Annotated[StoreKind, typer.Option(help="`sqlite` is `up` with the embedded broker.")] = StoreKind.POSTGRESQL,
    processes: Annotated[int, typer.Option(help="Processes of `api`; on `sqlite` one.")] = 1,
    only: Annotated[str, typer.Option(help="One flood instead of all.")] = "",
    seconds: Annotated[float, typer.Option(help="Seconds of the bystander before each flood.")] = 5,
) -> dict[str, object]:
    """A bystander publishes, commits, reads and opens a page: before and during each flood of another customer."""
    with _system(store, processes) as (base_url, endpoint_url):
        outcomes = asyncio.run(_play_all(base_url, endpoint_url, [only] if only else list(FLOODS), seconds))
    return say({}, experiment="floods", store=str(store), processes=processes, **outcomes)


async def _play_all(base_url: str, endpoint_url: str, names: list[str], seconds: float) -> dict[str, Any]:
    outcomes = {}
    bystander = await make_customer(base_url, OPERATOR_KEY, "Bystander", endpoint_url)
    with flood_process() as process:
        for name in names:
            attacker = await make_customer(base_url, OPERATOR_KEY, f"Flood of {name}", endpoint_url, sessions=30)
            # A class opens its sessions once.
            flood_seconds = 0 if name == "a_class" else seconds
            outcome = await play(
                name, attacker, bystander, process, seconds_before=seconds, flood_seconds=flood_seconds
            )
            outcomes[name] = _figures(outcome)
            print(name, outcomes[name], file=sys.stderr)
    return outcomes


def _figures(outcome: Outcome) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "flood": _statuses(outcome.flood),
        "flood_max_ms": round(max(outcome.flood.milliseconds)),
    }
    for name, during in outcome.during.items():
        before = outcome.before[name].milliseconds
        figures[name] = {
            "p99_before": round(percentile(before, 0.99), 1),
            "p50": round(percentile(during.milliseconds, 0.5), 1),
            "p99": round(percentile(during.milliseconds, 0.99), 1),
            "statuses": _statuses(during),
        }
    return figures


def _statuses(answers: Answers) -> dict[str, int]:
    return {str(status): count for status, count in sorted(answers.statuses.items())}


@contextmanager
def _system(store: StoreKind, processes: int) -> Iterator[tuple[str, str]]:
    """A running system: the address of its API, and one of an endpoint."""
    if store is StoreKind.SQLITE:
        with _up() as addresses:
            yield addresses
        return
    with running(stack_with_api(**_SETTINGS)) as stack:
        stack.start(WHOLE)
        stack.system.launch("api", "--processes", str(processes))
        until(lambda: stack.system.is_ready("api"), 60, "the API is ready")
        yield stack.api_url, stack.sink.url("/ok/1")


@contextmanager
def _up() -> Iterator[tuple[str, str]]:
    health_port, api_port = free_ports(2)
    ports = {"SCORM_WEBHOOKS_HEALTH_PORT": str(health_port), "SCORM_WEBHOOKS_API_PORT": str(api_port)}
    sink = Sink()
    with tempfile.TemporaryDirectory() as folder, Path(folder, "up.log").open("ab") as log:
        env = System(Path(folder), {**_SETTINGS, **ports}).env
        up = subprocess.Popen([sys.executable, "-m", "streams", "up"], env=env, cwd=folder, stderr=log, stdout=log)
        try:
            until(lambda: _is_ready(health_port), 90, "every stage is ready")
            yield f"http://127.0.0.1:{api_port}", sink.url("/ok/1")
        finally:
            os.kill(up.pid, signal.SIGTERM)
            up.wait(60)
            sink.close()


def _is_ready(port: int) -> bool:
    from adversary.conftest import is_ready

    return is_ready(port)
