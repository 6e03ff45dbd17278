"""Throughput of one stage alone, with a backlog on its topic."""

import time
from collections import Counter
from contextlib import nullcontext
from enum import StrEnum
from typing import Annotated

import typer

from bench.collector import collecting
from bench.processes import cpu
from bench.stack import Stack, running
from bench.steps import sampled
from e2e.system import until


class Stage(StrEnum):
    """The stages that a record passes."""

    FAN_OUT = "fan-out"
    DELIVER = "deliver"
    RECORD = "record"
    METER = "meter"


# The stages that write a stage's backlog, and the metric of its progress.
_BEFORE: dict[Stage, list[Stage]] = {
    Stage.FAN_OUT: [],
    Stage.DELIVER: [Stage.FAN_OUT],
    Stage.RECORD: [Stage.FAN_OUT, Stage.DELIVER],
    Stage.METER: [],
}
_DONE = {
    Stage.FAN_OUT: "events_total",
    Stage.DELIVER: "attempts_total",
    Stage.RECORD: "records_stored_total",
    Stage.METER: "usage_launches_total",
}


def alone(
    stage: Stage,
    records: Annotated[int, typer.Option(help="Records in the backlog.")] = 60_000,
    steps: Annotated[
        bool, typer.Option(help="Also sample the steps of its work; this slows it down a little.")
    ] = False,
    traced: Annotated[float, typer.Option(help="The share of traces that the stage keeps and sends.")] = 0.0,
) -> dict[str, object]:
    """Records a second and CPU of one stage, from 10 % to 95 % of the backlog; only `publish` runs beside it."""
    with running(Stack()) as stack, collecting() as collector:
        before = _BEFORE[stage]
        stack.start(["publish", *before, stage])
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(100)], max_concurrency=64)]
        stack.publish_many("first", accounts, 100)
        _until_done(stack, stage, 100)
        stack.system.stop(stage)
        stack.publish_many("evt", accounts, records)
        for earlier in before:
            _until_done(stack, earlier, records + 100)
            stack.system.stop(earlier)
        stack.system.start([stage], **(_tracing(collector.url, traced) if traced else {}))
        pid = stack.system.pid(stage)

        def reached(share: float) -> tuple[float, float, float]:
            return _until_done(stack, stage, share * records), cpu(pid), stack.system.metric(stage, _DONE[stage])

        began, cpu_before, first = reached(0.1)
        with sampled(pid) if steps else nullcontext(Counter[str]()) as samples:
            ended, cpu_after, last = reached(0.95)
        cpu_us = 1e6 * (cpu_after - cpu_before) / (last - first)
        shares = {step: count / samples.total() for step, count in samples.most_common()}
        return stack.say(
            experiment="alone",
            stage=stage.value,
            records=records,
            per_second=round((last - first) / (ended - began)),
            per_cpu_second=round((last - first) / (cpu_after - cpu_before)),
            cpu_us=round(cpu_us),
            traced=traced,
            spans=collector.spans,
            steps_us={step: round(share * cpu_us, 1) for step, share in shares.items()},
        )


def _tracing(url: str, share: float) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(share),
    }


def usage(records: Annotated[int, typer.Option(help="Launches in the backlog.")] = 200_000) -> dict[str, object]:
    """Launches a second that one `meter` counts, of 100 accounts, and its CPU."""
    return {**alone(Stage.METER, records), "experiment": "usage"}


def _until_done(stack: Stack, stage: Stage, records: float) -> float:
    """The time at which a stage had done `records`; checked rarely, because a check costs as much as ten records."""
    until(lambda: stack.system.metric(stage, _DONE[stage]) >= records, 300, f"{records} records of {stage}", every=0.5)
    return time.monotonic()
