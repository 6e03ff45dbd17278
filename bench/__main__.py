"""The experiments: each prints one JSON line a run."""

import statistics
import time
from typing import Annotated

import typer

from bench.stack import Stack, percentile, say

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Webhooks = Annotated[int, typer.Option(help="How many webhooks there are, each of an account of its own.")]
Seconds = Annotated[float, typer.Option(help="How long events are published.")]


@app.command()
def throughput(webhooks: Webhooks = 100, deliveries: Annotated[int, typer.Option()] = 60_000) -> None:
    """Deliveries a second while a backlog is worked off, and the CPU of every part."""
    stack = Stack()
    try:
        stack.start()
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(webhooks)], max_concurrency=64)]
        warm = 30_000  # the JVM compiles for half a minute of work
        for number in range(warm):
            stack.publish(f"warm_{number}", accounts[number % webhooks])
        stack.flush()
        stack.wait_for(warm, 120)
        stack.wait_for_states({"delivered": warm}, 60)
        stack.take()
        before, began = stack.cpu_seconds(), time.monotonic()
        for number in range(deliveries):
            stack.publish(f"evt_{number}", accounts[number % webhooks])
        stack.flush()
        published = time.monotonic() - began
        stack.wait_for(deliveries, 300)
        receipts = stack.take()
        ended = max(at for _, _, at, _ in receipts)
        recorded = _until_recorded(stack, deliveries + warm)
        after = stack.cpu_seconds()
        cpu = {part: round(1e6 * (after[part] - before[part]) / deliveries) for part in after}
        say(
            experiment="throughput",
            webhooks=webhooks,
            deliveries=deliveries,
            per_second=round(deliveries / (ended - began)),
            recorded_per_second=round(deliveries / (recorded - began)),
            published_seconds=round(published, 1),
            cpu_us_a_delivery=cpu,
            cpu_ms_a_delivery=round(sum(cpu.values()) / 1000, 3),
            doubled=len(receipts) - deliveries,
        )
    finally:
        stack.close()


def _until_recorded(stack: Stack, deliveries: int) -> float:
    stack.wait_for_states({"delivered": deliveries}, 300)
    return time.monotonic()


@app.command()
def latency(rate: Annotated[float, typer.Option(help="Events a second.")] = 50, seconds: Seconds = 20) -> None:
    """From the call of produce to the request's arrival at the sink."""
    stack = Stack()
    try:
        stack.start()
        accounts = [account for account, _ in stack.register([f"/ok/{n}" for n in range(10)])]
        sent: dict[str, float] = {}

        def publish(number: int) -> None:
            sent[f"evt_{number}"] = time.monotonic()
            stack.publish(f"evt_{number}", accounts[number % len(accounts)])

        stack.at_rate(rate, 3, lambda number: stack.publish(f"warm_{number}", accounts[number % len(accounts)]))
        stack.wait_for(int(rate * 3) - 1, 30)
        stack.take()
        before = stack.cpu_seconds()
        count = stack.at_rate(rate, seconds, publish)
        stack.wait_for(count, 30)
        after = stack.cpu_seconds()
        waits = [1000 * (at - sent[event_id]) for _, event_id, at, _ in stack.take() if event_id in sent]
        say(
            experiment="latency",
            rate=rate,
            events=count,
            p50_ms=round(statistics.median(waits), 1),
            p99_ms=round(percentile(waits, 0.99), 1),
            max_ms=round(max(waits), 1),
            cpu_share={part: round((after[part] - before[part]) / seconds, 2) for part in after},
        )
    finally:
        stack.close()


@app.command()
def neighbours(
    hanging: Annotated[float, typer.Option(help="Share of the webhooks that hang.")] = 0.2,
    webhooks: Webhooks = 200,
    rate: Annotated[float, typer.Option(help="Events a second over all webhooks.")] = 150,
    seconds: Seconds = 110,
) -> None:
    """How long the healthy webhooks' events take while others hang (two in three requests, so that few are paused)."""
    stack = Stack()
    try:
        stack.start()
        broken = round(hanging * webhooks)
        paths = [f"/hangs/{n}" if n < broken else f"/ok/{n}" for n in range(webhooks)]
        accounts = [account for account, _ in stack.register(paths)]
        sent: dict[str, float] = {}
        healthy: set[str] = set()

        def publish(number: int) -> None:
            event_id, hook = f"evt_{number}", number % webhooks
            sent[event_id] = time.monotonic()
            if hook >= broken:
                healthy.add(event_id)
            stack.publish(event_id, accounts[hook])

        stack.at_rate(rate, seconds, publish)
        deadline = time.monotonic() + 60
        receipts = stack.take()
        while len({e for _, e, _, _ in receipts} & healthy) < len(healthy) and time.monotonic() < deadline:
            time.sleep(0.2)
            receipts += stack.take()
        first: dict[str, float] = {}
        for _, event_id, at, _ in receipts:
            first.setdefault(event_id, at)
        waits = [1000 * (first[event_id] - sent[event_id]) for event_id in healthy & first.keys()]
        say(
            experiment="neighbours",
            hanging=hanging,
            rate=rate,
            healthy_events=len(healthy),
            healthy_delivered=len(waits),
            p50_ms=round(statistics.median(waits), 1),
            p99_ms=round(percentile(waits, 0.99), 1),
            max_ms=round(max(waits), 1),
            requests_to_hanging=sum(path.startswith("/hangs/") for path, _, _, _ in receipts),
        )
    finally:
        stack.close()


@app.command()
def held(
    deliveries: Annotated[int, typer.Option(help="How many are held when the webhook is enabled.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Events a second to another webhook meanwhile.")] = 50,
) -> None:
    """How fast held deliveries flow again, and what another webhook notices of it."""
    stack = Stack()
    try:
        stack.start()
        (account, webhook), (other, _) = stack.register(["/ok/held", "/ok/other"])
        waits = {"before": _paced(stack, other, rate, 20, "before")}
        stack.system.run("webhooks", "pause", webhook)
        for number in range(deliveries):
            stack.publish(f"held_{number}", account)
        stack.flush()
        stack.wait_for_states({"held": deliveries}, 600, webhook)
        stack.take()
        began = time.monotonic()
        stack.system.run("webhooks", "enable", webhook)
        waits["meanwhile"] = _paced(stack, other, rate, 20, "meanwhile")
        stack.wait_for_states({"delivered": deliveries}, 900, webhook)
        ended = time.monotonic()
        stack.take()
        arrived = [event_id for path, event_id, _, _ in stack.receipts if path == "/ok/held"]
        say(
            experiment="held",
            deliveries=deliveries,
            drained_per_second=round(deliveries / (ended - began)),
            doubled=len(arrived) - len(set(arrived)),
            **{f"p99_ms_{name}": round(percentile(found, 0.99), 1) for name, found in waits.items()},
            **{f"p50_ms_{name}": round(statistics.median(found), 1) for name, found in waits.items()},
        )
    finally:
        stack.close()


def _paced(stack: Stack, account: str, rate: float, seconds: float, name: str) -> list[float]:
    sent: dict[str, float] = {}

    def publish(number: int) -> None:
        sent[f"{name}_{number}"] = time.monotonic()
        stack.publish(f"{name}_{number}", account)

    count = stack.at_rate(rate, seconds, publish)
    found: dict[str, float] = {}
    deadline = time.monotonic() + 60
    while len(found) < count and time.monotonic() < deadline:
        found |= {event_id: at for _, event_id, at, _ in stack.take() if event_id in sent}
        time.sleep(0.1)
    return [1000 * (at - sent[event_id]) for event_id, at in found.items()]


if __name__ == "__main__":
    app()
