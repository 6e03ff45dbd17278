"""The front door: what one process of the API accepts, beside what a platform's own `EventProducer` reaches."""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.closed_loop import closed_loop
from bench.day import OPERATOR_KEY, per_event
from bench.event_senders import KafkaSender
from bench.producer import launch
from bench.sink import RECEIPT_BYTES, compile_c
from bench.stack import WARM_DELIVERIES, WHOLE, Stack, running, stack_with_api

_CLIENT = Path(__file__).with_name("client.c")


def front_door(
    count: Annotated[int, typer.Option(help="Pairs of measurements: by REST, then by `EventProducer`.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds of each measurement.")] = 12,
    connections: Annotated[int, typer.Option(help="Requests at once.")] = 32,
    batch: Annotated[int, typer.Option(help="Events in a request.")] = 1,
    undelivered: Annotated[int, typer.Option(help="A limit of published and undelivered events.")] = 2000,
    webhooks: Annotated[int, typer.Option(help="Webhooks, each of its own account.")] = 100,
    warm: Annotated[int, typer.Option(help="Deliveries before the first measurement.")] = WARM_DELIVERIES,
) -> dict[str, object]:
    """Events delivered a second by REST and by `EventProducer`, in turn, and the CPU of every part for each."""
    keys = f"bench={OPERATOR_KEY}"
    with running(stack_with_api(SCORM_WEBHOOKS_OPERATOR_KEYS=keys)) as stack, tempfile.TemporaryDirectory() as folder:
        client = Path(folder, "client")
        compile_c(_CLIENT, client)
        stack.start((*WHOLE, "api"))
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(webhooks)])]
        stack.warm_up(accounts, warm)
        measured: dict[str, list[dict[str, Any]]] = {"rest": [], "producer": []}
        for number in range(-1, count):
            by_rest = _by_rest(stack, client, accounts, f"rest{number}", seconds, connections, batch, undelivered)
            by_producer = _by_producer(stack, accounts, f"kafka{number}", seconds, undelivered)
            # The first pair warms up what only these two use.
            if number >= 0:
                measured["rest"].append(by_rest)
                measured["producer"].append(by_producer)
        return stack.say(experiment="front-door", batch=batch, connections=connections, **_figures(measured))


def _figures(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    pairs = list(zip(measured["rest"], measured["producer"], strict=True))
    ratios = [rest["per_second"] / producer["per_second"] for rest, producer in pairs]
    found: dict[str, Any] = {
        "ratio_median": round(statistics.median(ratios), 3),
        "ratios": [round(r, 2) for r in ratios],
    }
    for name, runs in measured.items():
        found[f"{name}_per_second"] = round(statistics.median(run["per_second"] for run in runs))
        found[f"{name}_cpu_us"] = {
            part: round(statistics.median(run["cpu_us"][part] for run in runs)) for part in runs[0]["cpu_us"]
        }
    found["rest_answer_p50_ms"] = statistics.median(run["p50_ms"] for run in measured["rest"])
    found["rest_answer_p99_ms"] = statistics.median(run["p99_ms"] for run in measured["rest"])
    found["rest_broker_requests"] = measured["rest"][-1]["requests"]
    found["refused"] = sum(run["refused"] for run in measured["rest"])
    return found


def _by_rest(
    stack: Stack,
    client: Path,
    accounts: Sequence[str],
    name: str,
    seconds: float,
    connections: int,
    batch: int,
    undelivered: int,
) -> dict[str, Any]:
    stack.take()
    requests = stack.broker_requests()
    before, began = stack.cpu_seconds(), time.monotonic()
    arguments = [stack.api_port, OPERATOR_KEY, connections, seconds, batch, name, undelivered, stack.sink.receipts]
    # Its own session, and so its own share of the CPU, as every other process here.
    said = subprocess.run(
        [client, *map(str, arguments), str(RECEIPT_BYTES)],
        input="\n".join(accounts),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ).stdout
    answer: dict[str, Any] = json.loads(said)
    found = answer | _delivered(stack, before, began, answer["accepted"])
    return found | {"requests": per_event(requests, stack.broker_requests(), answer["accepted"])}


def _by_producer(stack: Stack, accounts: Sequence[str], name: str, seconds: float, undelivered: int) -> dict[str, Any]:
    stack.take()
    with closing(KafkaSender(stack.bootstrap)) as sender:
        before, began = stack.cpu_seconds(), time.monotonic()
        published = closed_loop(
            undelivered,
            delivered=stack.sink.count,
            publish=lambda number: sender.send(launch(f"{name}-{number}", accounts[number % len(accounts)])),
            pause=lambda: time.sleep(0.001),
            is_over=lambda: time.monotonic() >= began + seconds,
        )
        assert sender.finish() == 0, "an event was not acknowledged"
        return _delivered(stack, before, began, published)


def _delivered(stack: Stack, before: dict[str, float], began: float, events: int) -> dict[str, Any]:
    """Wait until all events are delivered; the deliveries a second, and the CPU of each part for an event, in µs."""
    stack.wait_for(events, 120)
    after = stack.cpu_seconds()
    ended = max(at for _, _, at, _ in stack.take())
    cpu = {part: round(1e6 * (after[part] - before[part]) / events) for part in after}
    return {"per_second": round(events / (ended - began)), "cpu_us": cpu}
