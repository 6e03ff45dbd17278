"""kill -9 of each stage in mid-work: nothing is lost, and what is doubled is what was in flight."""

import time
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import STAGES, System, until

pytestmark = pytest.mark.e2e

EVENTS = 600
WEBHOOKS = ("/crm", "/warehouse", "/flaky")
THINKS_SECONDS = 0.02
KILLS = 3
# In flight (at most 32 slots a webhook), and what was completed since the last commit, half a second ago.
DOUBLED_A_KILL = len(WEBHOOKS) * (32 + int(32 / THINKS_SECONDS * 0.6))


@pytest.mark.parametrize("victim", STAGES)
def test_kill_9_loses_nothing(victim: str, system: System, platform: Platform, receiver: Receiver) -> None:
    for stage in STAGES:
        system.start([stage], SCORM_WEBHOOKS_INSTANCE_ID=f"{stage}-0")
    account = system.run("accounts", "create", "Acme", "--json")["id"]
    receiver.answers = dict.fromkeys(WEBHOOKS, slowly(200))
    receiver.answers["/flaky"] = now_and_then
    for path in WEBHOOKS:
        system.run("webhooks", "create", "--account", account, "--url", receiver.url(path), "--json")

    for kill in range(KILLS):
        before = len(receiver.requests)
        for number in range(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS):
            platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"sess_{number}")
        platform.flush()
        until(partial(receiver.has_got, before + 50), words="work under way")
        system.kill(victim)
        system.start([victim], SCORM_WEBHOOKS_INSTANCE_ID=f"{victim}-0")

    wanted = set(platform.acknowledged)
    assert len(wanted) == EVENTS
    for path in WEBHOOKS:
        until(partial(receiver.has_all, path, wanted), 60, f"every event at {path}")
    everything = {"delivered": EVENTS * len(WEBHOOKS)}
    until(lambda: states(system) == everything, 30, "every delivery recorded as delivered")
    doubled = sum(len(receiver.ids(path)) - EVENTS for path in ("/crm", "/warehouse"))
    print(f"kill -9 {victim}, {KILLS} times: lost 0, doubled {doubled} of {2 * EVENTS}")
    assert doubled <= (KILLS * DOUBLED_A_KILL if victim in ("fan-out", "deliver") else 0)


def now_and_then(request: Received) -> int:
    """Fails some first attempts, so that there is work in the tiers as well; a second one is always taken."""
    fails = request.number % 7 == 3 and header(request, "webhook-attempt") == "1"
    return slowly(500 if fails else 200)(request)


def slowly(status: int) -> Callable[[Received], int]:
    """An endpoint that thinks before it answers, so that a kill finds requests in flight."""

    def answer(request: Received) -> int:
        time.sleep(THINKS_SECONDS)
        return status

    return answer


def states(system: System) -> dict[str, int]:
    found = system.run("deliveries", "list", "--limit", "10000", "--json")
    return dict(Counter(delivery["state"] for delivery in found))
