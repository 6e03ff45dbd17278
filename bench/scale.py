"""What more processes of `deliver` bring, beside the prediction of a model."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import typer

from bench.model import Deployment
from bench.stack import Stack, running
from bench.whole import throughput

PROCESSES = [1, 2, 3]
RESPONSES = [600, 0]
WEBHOOKS = 100
SLOTS = 256
MAX_CONCURRENCY = 64
MAX_BACKLOG = 120_000


def scale(
    processes: Annotated[list[int], typer.Option(help="Processes of `deliver`; may be repeated.")] = PROCESSES,
    response_ms: Annotated[
        list[int], typer.Option(help="Response time of the endpoints; may be repeated.")
    ] = RESPONSES,
    seconds: Annotated[float, typer.Option(help="Seconds that each backlog takes, by the model.")] = 30,
    calibration: Annotated[int, typer.Option(help="Deliveries of the run before.")] = 60_000,
    warm: Annotated[int, typer.Option(help="Deliveries before each measurement.")] = 5_000,
) -> Iterator[dict[str, object]]:
    """Deliveries a second with one, two and three processes, predicted and measured.

    The model knows the slots, the response time, Kafka's assignment of partitions, and the CPU time of a delivery: that
    comes from a run before, with endpoints that respond at once.
    """
    calibrated = throughput(webhooks=WEBHOOKS, deliveries=calibration)
    cpu_us = calibrated["cpu_us_a_delivery"]
    assert isinstance(cpu_us, dict)
    cpu = {part: us / 1e6 for part, us in cpu_us.items()}
    for milliseconds in response_ms:
        for count in processes:
            yield _measure(count, milliseconds, cpu, seconds, warm)


def _measure(
    processes: int, response_ms: int, cpu: Mapping[str, float], seconds: float, warm: int
) -> dict[str, object]:
    with running(Stack(SCORM_WEBHOOKS_SLOTS=str(SLOTS))) as stack:
        stack.start()
        for _ in range(processes - 1):
            stack.start_more(["deliver"])
        paths = [f"/slow-{response_ms}/{n}" if response_ms else f"/ok/{n}" for n in range(WEBHOOKS)]
        registered = stack.register(paths, max_concurrency=MAX_CONCURRENCY)
        accounts, ids = zip(*registered, strict=True)
        deployment = Deployment(
            processes=processes,
            partitions=int(stack.system.env["SCORM_WEBHOOKS_DELIVERY_PARTITIONS"]),
            slots=SLOTS,
            max_concurrency=MAX_CONCURRENCY,
            response_seconds=response_ms / 1000,
            cpu=cpu,
            cores=len(os.sched_getaffinity(0)),
        )
        limit, predicted = _prediction(deployment, ids)
        deliveries = min(MAX_BACKLOG, round(predicted * seconds))
        stack.warm_up(accounts, warm)
        began = time.monotonic()
        stack.publish_many("evt", accounts, deliveries)
        stack.wait_for(deliveries, 10 * seconds)
        measured = deliveries / (max(at for _, _, at, _ in stack.take()) - began)
        return stack.say(
            experiment="scale",
            processes=processes,
            response_ms=response_ms,
            limit=limit,
            predicted_per_second=round(predicted),
            per_second=round(measured),
            measured_over_predicted=round(measured / predicted, 2),
            deliveries=deliveries,
        )


def _prediction(deployment: Deployment, webhook_ids: Sequence[str]) -> tuple[str, float]:
    """The limit that counts, and deliveries a second."""
    times = deployment.seconds_by_limit(webhook_ids, 1)
    limit = max(times, key=times.__getitem__)
    return limit, len(webhook_ids) / times[limit]
