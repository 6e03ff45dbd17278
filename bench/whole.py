"""The whole system: throughput with a backlog, and latency without one."""

import statistics
import time
from typing import Annotated

import typer

from bench.producer import launch
from bench.stack import WARM_DELIVERIES, Stack, percentile, running
from streams.producer import EventProducer


def throughput(
    webhooks: Annotated[int, typer.Option(help="Webhooks, each of its own account.")] = 100,
    one_account: Annotated[
        bool, typer.Option("--one-account", help="All webhooks are of one account, each for one package.")
    ] = False,
    deliveries: Annotated[int, typer.Option(help="Deliveries in the backlog: most of a minute's work.")] = 240_000,
    delivers: Annotated[int, typer.Option(help="Processes of `deliver`.")] = 1,
    fan_outs: Annotated[int, typer.Option(help="Processes of `fan-out`.")] = 1,
    undelivered: Annotated[
        int, typer.Option(help="Instead of a backlog: a limit of published and undelivered events.")
    ] = 0,
    seconds: Annotated[float, typer.Option(help="With --undelivered: seconds of publishing.")] = 60,
    warm: Annotated[int, typer.Option(help="Deliveries before the measurement.")] = WARM_DELIVERIES,
) -> dict[str, object]:
    """Deliveries a second, of a backlog or under a sustained load, and the CPU of every part."""
    with running(Stack()) as stack:
        accounts = _start(stack, webhooks, delivers, fan_outs, one_account=one_account)
        stack.warm_up(accounts, warm)
        bytes_before = stack.database_bytes()
        before, began = stack.cpu_seconds(), time.monotonic()
        if undelivered:
            published = stack.keep_undelivered(undelivered, seconds, accounts)
        else:
            stack.publish_many("evt", accounts, deliveries)
            published = deliveries
        published_seconds = time.monotonic() - began
        stack.wait_for(published, 300)
        receipts = stack.take()
        stack.wait_for_record(published + warm, 300)
        recorded = time.monotonic()
        after = stack.cpu_seconds()
        ended = began + seconds if undelivered else max(at for _, _, at, _ in receipts)
        in_time = sum(at <= ended for _, _, at, _ in receipts)
        cpu = {part: round(1e6 * (after[part] - before[part]) / published) for part in after}
        return stack.say(
            experiment="throughput",
            webhooks=webhooks,
            one_account=one_account,
            delivers=delivers,
            fan_outs=fan_outs,
            undelivered=undelivered,
            per_second=round(in_time / (ended - began)),
            recorded_per_second=round(published / (recorded - began)),
            published=published,
            published_seconds=round(published_seconds, 1),
            recorded_seconds=round(recorded - began, 1),
            cpu_us_a_delivery=cpu,
            cpu_ms_a_delivery=round(sum(cpu.values()) / 1000, 3),
            database_bytes_a_delivery=round((stack.database_bytes() - bytes_before) / published),
            doubled=len(receipts) - published,
        )


def _start(stack: Stack, webhooks: int, delivers: int, fan_outs: int, *, one_account: bool = False) -> list[str]:
    """Start the stages and register webhooks with a high concurrency; return their accounts."""
    stack.start()
    for number in range(1, max(delivers, fan_outs)):
        stack.start_more([*(["deliver"] if number < delivers else []), *(["fan-out"] if number < fan_outs else [])])
    paths = [f"/ok/{n}" for n in range(webhooks)]
    if one_account:
        return [stack.register_account(paths, [f"pkg_{n}" for n in range(webhooks)])]
    return [account for account, _ in stack.register(paths, max_concurrency=64)]


def latency(
    rate: Annotated[float, typer.Option(help="Events a second.")] = 50,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing.")] = 20,
) -> dict[str, object]:
    """Time from the call of `EventProducer.publish` to the arrival of the request at the sink."""
    with running(Stack()) as stack, EventProducer(stack.bootstrap) as producer:
        stack.start()
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(10)])]
        sent: dict[str, float] = {}

        def publish(number: int) -> None:
            sent[f"evt_{number}"] = time.monotonic()
            producer.publish(launch(f"evt_{number}", accounts[number % len(accounts)]))

        stack.warm_up(accounts)
        producer.publish(launch("evt_of_nobody", "acc_without_a_webhook")).result()
        before = stack.cpu_seconds()
        count = stack.at_rate(rate, seconds, publish)
        stack.wait_for(count, 30)
        after = stack.cpu_seconds()
        waits = [1000 * (at - sent[event_id]) for _, event_id, at, _ in stack.take() if event_id in sent]
        return stack.say(
            experiment="latency",
            rate=rate,
            events=count,
            p50_ms=round(statistics.median(waits), 1),
            p99_ms=round(percentile(waits, 0.99), 1),
            max_ms=round(max(waits), 1),
            cpu_share={part: round((after[part] - before[part]) / seconds, 2) for part in after},
        )
