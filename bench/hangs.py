"""Endpoints that hang: what hundreds of one customer's webhooks that stop answering cost another customer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from adversary.misbehaving_endpoint import MisbehavingEndpoint, answers_until, listening
from adversary.system import OPERATOR_KEY, Account, AdversarySystem
from bench.stack import WHOLE, Stack, percentile, running, say, stack_with_api
from e2e.receiver import Receiver
from e2e.system import until

# Of each webhook before it hangs: it is known as a healthy one.
ANSWERS = 10
EVERY_SECONDS = 0.05
BEFORE_SECONDS = 5.0


def hangs(
    accounts: Annotated[int, typer.Option(help="Accounts whose endpoints hang.")] = 1,
    webhooks: Annotated[int, typer.Option(help="Webhooks of each.")] = 300,
    seconds: Annotated[float, typer.Option(help="Seconds in which the other account publishes.")] = 15,
) -> dict[str, object]:
    """Healthy webhooks with a timeout of 30 seconds hang together: how long another account's events take."""
    limits = {
        "SCORM_WEBHOOKS_OPERATOR_KEYS": OPERATOR_KEY,
        "SCORM_WEBHOOKS_WEBHOOKS_PER_ACCOUNT": str(webhooks),
    }
    with running(stack_with_api(**limits)) as stack:
        stack.start((*WHOLE, "api"))
        receiver = Receiver()
        try:
            figures = _measure(stack, receiver, accounts, webhooks, seconds)
        finally:
            receiver.close()
        return say(stack.settings(), experiment="hangs", accounts=accounts, webhooks=webhooks, **figures)


def _measure(stack: Stack, receiver: Receiver, accounts: int, webhooks: int, seconds: float) -> dict[str, Any]:
    health_port = stack.system.health_port("deliver")
    system = AdversarySystem(stack.system, receiver, stack.bootstrap, "", int(stack.api_port), health_port)
    attackers = [system.open_account(f"Attacker {number}") for number in range(accounts)]
    is_over = threading.Event()
    with listening(answers_until(is_over)) as endpoint:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: _register(system, endpoint, *pair), product(attackers, range(webhooks))))
        for account in attackers:
            system.publish_many(account, ANSWERS)
        until(lambda: endpoint.connections >= accounts * webhooks * ANSWERS, 300, "all have answered")
        before = _events(system, BEFORE_SECONDS)
        memory_before = _resources(stack)
        is_over.set()
        for account in attackers:
            system.publish_many(account, 1)
        began_at = time.monotonic()
        until(lambda: system.system.metric("deliver", "slots_in_use") > 0, 10, "requests hang")
        during = _events(system, seconds)
        memory_during = _resources(stack)
        return {
            "p50_ms_before": round(percentile(before, 0.5), 1),
            "p99_ms_before": round(percentile(before, 0.99), 1),
            "p50_ms": round(percentile(during, 0.5), 1),
            "p99_ms": round(percentile(during, 0.99), 1),
            "max_ms": round(max(during), 1),
            "first_event_of_an_account_ms": round(_first_event(system), 1),
            "test_ms": round(_test(system), 1),
            "slow_slots_in_use": system.system.metric("deliver", "slow_slots_in_use"),
            "seconds_of_hanging": round(time.monotonic() - began_at, 1),
            "before": memory_before,
            "during": memory_during,
        }


def _register(system: AdversarySystem, endpoint: MisbehavingEndpoint, account: Account, number: int) -> None:
    system.register(account, endpoint.url(f"/{account.id}/{number}"), timeoutSeconds=30)


def _events(system: AdversarySystem, seconds: float) -> list[float]:
    """The milliseconds of the bystander's events from their publication until they arrive."""
    sent: dict[str, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent[system.publish(system.bystander, "bystander")] = time.monotonic()
        time.sleep(EVERY_SECONDS)
    until(lambda: set(sent) <= set(system.receiver.ids("/bystander")), 90, "the bystander's events", every=0.05)
    arrived = {one.headers["webhook-id"]: one.at for one in reversed(system.receiver.at("/bystander"))}
    return [1000 * (arrived[event_id] - at) for event_id, at in sent.items()]


def _first_event(system: AdversarySystem) -> float:
    """The milliseconds of the first event to a new endpoint of another account."""
    account = system.open_account("Newcomer")
    system.register(account, system.receiver.url("/newcomer"))
    system.publish(account, "newcomer")
    return _until_received(system, "/newcomer")


def _test(system: AdversarySystem) -> float:
    """The milliseconds of a test event of the bystander."""
    path = f"/v1/webhooks/{system.register(system.bystander, system.receiver.url('/tested'))}/test"
    began_at = time.monotonic()
    answered = system.call("POST", path, {}, key=system.bystander.key)
    assert answered.status in (200, 202), answered.body
    return 1000 * (system.receiver.at("/tested")[0].at - began_at)


def _until_received(system: AdversarySystem, path: str) -> float:
    began_at = time.monotonic()
    until(lambda: bool(system.receiver.at(path)), 90, f"a request at {path}", every=0.005)
    return 1000 * (system.receiver.at(path)[0].at - began_at)


def _resources(stack: Stack) -> dict[str, int]:
    """The memory and the open files of `deliver`."""
    folder = Path("/proc", str(stack.system.pid("deliver")))
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
    files = len(list((folder / "fd").iterdir()))
    return {"memory_mb": int(status["VmRSS"].split()[0]) // 1024, "files": files}
