"""kill -9 of each stage in mid-work: nothing is lost, and what is doubled is what was in flight."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import STAGES, System, until
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

EVENTS = 600
WEBHOOKS = ("/crm", "/warehouse", "/flaky")
THINKS_SECONDS = 0.02
KILLS = 3
# What was sent since the last commit (every half second, and the commit takes its time) is sent again.
COMMIT_SECONDS = 1.0
SLOTS = 32
WATCHED = ("/crm", "/warehouse")


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every stage under a name that survives a kill; whoever is killed is started again."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("running")):
        for stage in STAGES:
            system.launch(stage, SCORM_WEBHOOKS_INSTANCE_ID=f"{stage}-0")
        for stage in STAGES:
            until(partial(system.is_ready, stage), message=f"{stage} ready")
        yield system


@pytest.fixture
def system(running: System) -> System:
    return running


@pytest.mark.parametrize("victim", STAGES)
def test_kill_9_loses_nothing(victim: str, system: System, platform: Platform, receiver: Receiver) -> None:
    account = system.account()
    receiver.responses = dict.fromkeys(WEBHOOKS, slowly(200))
    receiver.responses["/flaky"] = now_and_then
    made = [
        system.run("webhooks", "create", "--account", account, "--url", receiver.url(p), "--json") for p in WEBHOOKS
    ]
    webhooks = [webhook["id"] for webhook in made]
    # A publisher that was killed leaves a lease, which the next one waits for.
    until(system.has_published, message="the webhooks known to every stage")

    in_doubt = 0
    for kill in range(KILLS):
        before = len(receiver.requests)
        for number in range(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS):
            platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"sess_{number}")
        platform.flush()
        until(partial(receiver.has_got, before + 50), message="work under way")
        system.kill(victim)
        in_doubt += sent_of_late(receiver, time.monotonic()) + SLOTS * len(WATCHED)
        system.start([victim], SCORM_WEBHOOKS_INSTANCE_ID=f"{victim}-0")

    wanted = set(platform.acknowledged)
    assert len(wanted) == EVENTS
    for path in WEBHOOKS:
        receiver.wait_for(path, wanted)
    for webhook in webhooks:
        delivered = partial(stands, system, webhook, {"delivered": EVENTS})
        until(delivered, 30, "every delivery recorded as delivered")
    times = Counter(event_id for path in WATCHED for event_id in receiver.ids(path))
    doubled = sum(times.values()) - EVENTS * len(WATCHED)
    print(f"kill -9 {victim}, {KILLS} times: lost 0, doubled {doubled} of {2 * EVENTS} ({in_doubt} were in doubt)")
    # A repeat of fan-out is dropped by deliver unless its twin has not been acknowledged yet.
    assert max(times.values()) <= len(WATCHED) * (1 + KILLS)
    if victim != "fan-out":
        assert doubled <= (in_doubt if victim == "deliver" else 0)


def stands(system: System, webhook_id: str, states: dict[str, int]) -> bool:
    return system.states(webhook_id) == states


def sent_of_late(receiver: Receiver, now: float) -> int:
    """How many requests of the watched webhooks came in within one commit's time."""
    return sum(now - request.at < COMMIT_SECONDS for path in WATCHED for request in receiver.at(path))


def now_and_then(request: Received) -> int:
    """Fails some first attempts, so that there is work in the tiers as well; a second one is always taken."""
    fails = request.number % 7 == 3 and header(request, "webhook-attempt") == "1"
    return slowly(500 if fails else 200)(request)


def slowly(status: int) -> Callable[[Received], int]:
    """An endpoint that thinks before it answers, so that a kill finds requests in flight."""

    def response(request: Received) -> int:
        time.sleep(THINKS_SECONDS)
        return status

    return response
