"""kill -9 of each stage under load loses nothing, and repeats only requests in flight or uncommitted."""

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
DELAY_SECONDS = 0.02
KILLS = 3
# Requests since the last commit are repeated: commits are half a second apart and take time.
COMMIT_SECONDS = 1.0
SLOTS = 32
WATCHED = ("/crm", "/warehouse")


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Every stage, with a static member name that survives a kill."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("running")):
        for stage in STAGES:
            system.launch(stage, SCORM_WEBHOOKS_INSTANCE_ID=f"{stage}-0")
        for stage in STAGES:
            until(partial(system.is_ready, stage), message=f"{stage} ready")
        yield system


@pytest.fixture
def system(running: System) -> System:
    return running


@pytest.mark.parametrize("stage_to_kill", STAGES)
def test_kill_9_loses_nothing(stage_to_kill: str, system: System, platform: Platform, receiver: Receiver) -> None:
    kills_lose_nothing(stage_to_kill, system, platform, receiver)


def test_kill_9_of_fan_out_by_librdkafka_loses_nothing(system: System, platform: Platform, receiver: Receiver) -> None:
    assert system.stop("fan-out") == 0
    system.env["SCORM_WEBHOOKS_FAN_OUT_CONSUMER"] = "librdkafka"
    # The members of Faust have left when it is ready.
    system.start(["fan-out"], SCORM_WEBHOOKS_INSTANCE_ID="fan-out-0")
    kills_lose_nothing("fan-out", system, platform, receiver)


def kills_lose_nothing(stage_to_kill: str, system: System, platform: Platform, receiver: Receiver) -> None:
    account = system.account()
    receiver.responses = dict.fromkeys(WEBHOOKS, delayed(200))
    receiver.responses["/flaky"] = fail_some
    made = [
        system.run("webhooks", "create", "--account", account, "--url", receiver.url(p), "--json") for p in WEBHOOKS
    ]
    webhooks = [webhook["id"] for webhook in made]
    # The next publisher waits for the lease of the killed one.
    until(system.has_published, message="the webhooks known to every stage")

    in_doubt = 0
    for kill in range(KILLS):
        before = len(receiver.requests)
        for number in range(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS):
            platform.publish(f"evt_{number}", launched(f"evt_{number}", account), key=f"sess_{number}")
        platform.flush()
        until(partial(receiver.has_got, before + 50), message="work under way")
        system.kill(stage_to_kill)
        in_doubt += recent_requests(receiver, time.monotonic()) + SLOTS * len(WATCHED)
        system.start([stage_to_kill], SCORM_WEBHOOKS_INSTANCE_ID=f"{stage_to_kill}-0")

    wanted = set(platform.acknowledged)
    assert len(wanted) == EVENTS
    for path in WEBHOOKS:
        receiver.wait_for(path, wanted)
    for webhook in webhooks:
        delivered = partial(has_states, system, webhook, {"delivered": EVENTS})
        until(delivered, 30, "every delivery recorded as delivered")
    times = Counter(event_id for path in WATCHED for event_id in receiver.ids(path))
    repeated = sum(times.values()) - EVENTS * len(WATCHED)
    print(
        f"kill -9 {stage_to_kill}, {KILLS} times: lost 0, repeated {repeated} of {2 * EVENTS} "
        f"({in_doubt} were in doubt)"
    )
    # `deliver` drops a repeat of fan-out, unless the first one is not acknowledged yet.
    assert max(times.values()) <= len(WATCHED) * (1 + KILLS)
    if stage_to_kill != "fan-out":
        assert repeated <= (in_doubt if stage_to_kill == "deliver" else 0)


def has_states(system: System, webhook_id: str, states: dict[str, int]) -> bool:
    return system.states(webhook_id) == states


def recent_requests(receiver: Receiver, now: float) -> int:
    """Number of requests to the watched webhooks within the last commit interval."""
    return sum(now - request.at < COMMIT_SECONDS for path in WATCHED for request in receiver.at(path))


def fail_some(request: Received) -> int:
    """Fail some first attempts, so that retries wait too; accept every second attempt."""
    fails = request.number % 7 == 3 and header(request, "webhook-attempt") == "1"
    return delayed(500 if fails else 200)(request)


def delayed(status: int) -> Callable[[Received], int]:
    """An endpoint with a delay, so that a kill finds requests in flight."""

    def response(request: Received) -> int:
        time.sleep(DELAY_SECONDS)
        return status

    return response
