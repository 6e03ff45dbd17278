"""Isolation: webhooks beside others that hang or have a backlog."""

import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import typer

from bench.stack import Stack, percentile, running, say

SHARES = [0.05, 0.2]
# Until the first retries of hanging requests, so that every part has seen them.
SETTLED_SECONDS = 45


def neighbours(
    hanging: Annotated[float, typer.Option(help="Share of the webhooks that hang.")] = 0.2,
    webhooks: Annotated[int, typer.Option(help="Webhooks, each of its own account.")] = 200,
    rate: Annotated[float, typer.Option(help="Events a second over all webhooks.")] = 150,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing.")] = 110,
    with_rules: Annotated[bool, typer.Option(help="Those that hang use every rule that a webhook may have.")] = False,
) -> dict[str, object]:
    """Latency of healthy webhooks while others hang (two of three requests, so that few are paused)."""
    with running(Stack()) as stack:
        stack.start()
        broken = round(hanging * webhooks)
        paths = [f"/hangs/{n}" if n < broken else f"/ok/{n}" for n in range(webhooks)]
        rules = {path: _rules(stack, n) for n, path in enumerate(paths[:broken])} if with_rules else {}
        accounts = [account for account, _ in stack.register(paths, rules=rules)]
        sent: dict[str, float] = {}
        healthy: set[str] = set()

        def settle(number: int) -> None:
            stack.publish(f"early_{number}", accounts[number % webhooks])

        def publish(number: int) -> None:
            event_id, hook = f"evt_{number}", number % webhooks
            sent[event_id] = time.monotonic()
            if hook >= broken:
                healthy.add(event_id)
            stack.publish(event_id, accounts[hook])

        stack.warm_up(accounts[broken:])
        stack.at_rate(rate, SETTLED_SECONDS, settle)
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
        return stack.say(
            experiment="neighbours",
            hanging=hanging,
            with_rules=with_rules,
            rate=rate,
            healthy_events=len(healthy),
            healthy_delivered=len(waits),
            p50_ms=round(statistics.median(waits), 1),
            p99_ms=round(percentile(waits, 0.99), 1),
            max_ms=round(max(waits), 1),
            requests_to_hanging=sum(path.startswith("/hangs/") for path, _, _, _ in receipts),
        )


def _rules(stack: Stack, number: int) -> dict[str, Any]:
    """Every rule of a webhook; the token server of one in four hangs as its endpoint would."""
    oauth = {"type": "oauth2", "tokenUrl": stack.sink.url(f"/hangs/token/{number}"), "clientId": "bench"}
    basic = {"type": "basic", "username": "bench"}
    return {
        "auth": oauth if number % 4 == 0 else basic,
        "auth_secret": "bench-secret",
        "fields": ["sessionId", "packageId"],
        "rate_per_second": 0.5,
        "rate_burst": 5,
        "timeout_seconds": 30,
        "retries": ["30s", "2m", "10m"],
        "pause_after": {"failures": 20, "minutes": 5},
        "on_gone": "delete",
        "resume": "probe",
    }


def pairs(
    count: Annotated[int, typer.Option(help="Number of rounds.")] = 5,
    hanging: Annotated[list[float], typer.Option(help="Share that hangs; may be repeated.")] = SHARES,
    rate: Annotated[float, typer.Option(help="Events a second over all webhooks.")] = 150,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing.")] = 110,
    with_rules: Annotated[bool, typer.Option(help="Those that hang use every rule that a webhook may have.")] = False,
) -> dict[str, object]:
    """`neighbours` without and with webhooks that hang, in turn; for each share the median ratio of their p99."""
    p99: dict[float, list[float]] = {share: [] for share in (0.0, *hanging)}
    complete = True
    settings: object = None
    for _ in range(count):
        for share, found in p99.items():
            result = neighbours(share, 200, rate, seconds, with_rules)
            found.append(float(str(result["p99_ms"])))
            settings = result["settings"]
            complete = complete and result["healthy_events"] == result["healthy_delivered"]
    ratios = {share: [round(b / a, 2) for a, b in zip(p99[0.0], p99[share], strict=True)] for share in hanging}
    return say(
        settings,
        experiment="pairs",
        with_rules=with_rules,
        rate=rate,
        seconds=seconds,
        p99_ms=p99,
        p99_ratios=ratios,
        p99_ratio_median={share: statistics.median(found) for share, found in ratios.items()},
        all_healthy_delivered=complete,
    )


def held(
    deliveries: Annotated[int, typer.Option(help="Held deliveries at the enabling.")] = 100_000,
    rate: Annotated[float, typer.Option(help="Events a second to another webhook meanwhile.")] = 50,
    think_ms: Annotated[int, typer.Option(help="Response time of the endpoint.")] = 100,
) -> dict[str, object]:
    """Throughput of released deliveries, and the latency of another webhook meanwhile."""
    with running(Stack()) as stack:
        stack.start()
        path = f"/slow-{think_ms}/held" if think_ms else "/ok/held"
        (account, webhook), (other, _) = stack.register([path, "/ok/other"])
        stack.warm_up([other])
        waits = {"before": paced(stack, other, rate, 30, "before")}
        stack.system.run("webhooks", "pause", webhook)
        stack.publish_many("held", [account], deliveries)
        stack.wait_for_states({"held": deliveries}, 600, webhook)
        stack.take()
        began = time.monotonic()
        stack.system.run("webhooks", "enable", webhook)
        waits["meanwhile"] = paced(stack, other, rate, 30, "meanwhile")
        stack.wait_for_states({"delivered": deliveries}, 900, webhook)
        ended = time.monotonic()
        stack.take()
        arrived = [event_id for at, event_id, _, _ in stack.receipts if at == path]
        return stack.say(
            experiment="held",
            deliveries=deliveries,
            think_ms=think_ms,
            drained_per_second=round(deliveries / (ended - began)),
            doubled=len(arrived) - len(set(arrived)),
            **{f"p99_ms_{name}": round(percentile(found, 0.99), 1) for name, found in waits.items()},
            **{f"p50_ms_{name}": round(statistics.median(found), 1) for name, found in waits.items()},
        )


def paced(stack: Stack, account: str, rate: float, seconds: float, name: str) -> list[float]:
    """Publish to an account at a rate; return the milliseconds of each event."""
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


def rated(
    rate: Annotated[float, typer.Option(help="Requests a second that the webhook may have.")] = 20,
    times: Annotated[float, typer.Option(help="Its events a second, as a multiple of its rate.")] = 10,
    others: Annotated[float, typer.Option(help="Events a second to another webhook at the same time.")] = 50,
    seconds: Annotated[float, typer.Option(help="Seconds of publishing.")] = 30,
) -> dict[str, object]:
    """Latency of another webhook while one gets more than its rate, beside the same load without that rate."""
    with running(Stack()) as stack:
        stack.start()
        limited, free, other = stack.register(["/ok/limited", "/ok/free", "/ok/other"])
        stack.system.run("webhooks", "update", limited[1], "--set", f"ratePerSecond={rate}")
        stack.warm_up([free[0], other[0]])
        waits: dict[str, list[float]] = {"alone": paced(stack, other[0], others, seconds, "alone")}
        for name, (account, _) in (("free", free), ("limited", limited)):
            with ThreadPoolExecutor(1) as pool:
                publishing = pool.submit(_publish_at, stack, account, rate * times, seconds, name)
                waits[name] = paced(stack, other[0], others, seconds, f"beside_{name}")
                publishing.result()
        stack.take()
        arrived = sorted(at for path, _, at, _ in stack.receipts if path == "/ok/limited")
        most = max((sum(start <= at < start + 1 for at in arrived) for start in arrived), default=0)
        return stack.say(
            experiment="rated",
            rate=rate,
            published_per_second=rate * times,
            requests=len(arrived),
            most_in_a_second=most,
            **{f"p99_ms_{name}": round(percentile(found, 0.99), 1) for name, found in waits.items()},
            **{f"p50_ms_{name}": round(statistics.median(found), 1) for name, found in waits.items()},
        )


def _publish_at(stack: Stack, account: str, rate: float, seconds: float, name: str) -> None:
    stack.at_rate(rate, seconds, lambda number: stack.publish(f"{name}_{number}", account))
