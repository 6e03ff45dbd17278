"""Requests that last do not hold the events of others while `deliver` stops."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversary import misbehaving_endpoint as endpoints
from adversary.conftest import SETTINGS
from adversary.misbehaving_endpoint import listening
from adversary.system import AdversarySystem
from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.postgres import Postgres
from real.process import free_ports
from streams.core.deliveries.time_limits import DELIVER_DRAIN_SECONDS, REQUESTS_DRAIN_SECONDS

pytestmark = pytest.mark.real

SLOW_WEBHOOKS = 10
EVENTS_EACH = 20
# The events of others, from before the stop until after the process has ended.
EVERY_SECONDS = 0.05
BEFORE_SECONDS, AFTER_SECONDS = 2, 8
# The next owner hears of its partitions by its next heartbeat: one a second here.
LONGEST_WAIT_SECONDS = REQUESTS_DRAIN_SECONDS + 2.0
# From the last request until the process has ended, and until another has started.
END_SECONDS, START_SECONDS = 3.0, 4.0


@pytest.fixture
def attacked(kafka: Broker, postgres: Postgres, tmp_path: Path) -> Iterator[AdversarySystem]:
    receiver, prefix, [api_port] = Receiver(), random_prefix(), free_ports(1)
    for system in prepared(kafka, postgres, prefix, tmp_path, **{**SETTINGS, "SCORM_WEBHOOKS_API_PORT": str(api_port)}):
        system.start((*STAGES, "maintain", "meter", "api"))
        yield AdversarySystem(system, receiver, kafka.bootstrap, prefix, api_port, system.health_port("deliver"))
    receiver.close()


@pytest.fixture
def second(attacked: AdversarySystem, tmp_path: Path) -> Iterator[System]:
    """Another machine, on which nothing runs yet."""
    (tmp_path / "second").mkdir()
    system = System(tmp_path / "second", attacked.system.env)
    yield system
    system.close()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_waits_for_no_slow_request(attacked: AdversarySystem, second: System, processes: int) -> None:
    if processes == 2:
        second.start(["deliver"])
    account = attacked.open_account("Attacker")
    ended: list[float] = []

    def replace_deliver() -> None:
        began = time.monotonic()
        attacked.system.stop("deliver")
        ended.append(time.monotonic() - began)
        if processes == 1:
            second.start(["deliver"])

    with listening(endpoints.is_silent) as endpoint:
        for number in range(SLOW_WEBHOOKS):
            attacked.register(account, endpoint.url(f"/{number}"), timeoutSeconds=30)
        attacked.publish_many(account, EVENTS_EACH)
        until(lambda: endpoint.connections >= SLOW_WEBHOOKS, 20, "requests hang")
        sent = publish_for(attacked, BEFORE_SECONDS)
        stopping = threading.Thread(target=replace_deliver)
        stopping.start()
        sent |= publish_for(attacked, AFTER_SECONDS)
        stopping.join()
        attacked.receiver.wait_for("/bystander", set(sent))
    longest = max(first_arrivals(attacked)[event_id] - at for event_id, at in sent.items())
    print(f"\nended after {ended[0]:.1f} s; the longest wait was {longest:.1f} s")  # seen with -s
    assert ended[0] <= DELIVER_DRAIN_SECONDS + END_SECONDS
    gap = 0.0 if processes == 2 else DELIVER_DRAIN_SECONDS + START_SECONDS
    assert longest <= LONGEST_WAIT_SECONDS + gap


# ------------------------------------------------------------------------------------------------------------------


def publish_for(attacked: AdversarySystem, seconds: float) -> dict[str, float]:
    """Publish events of the bystander; when each was published."""
    sent: dict[str, float] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent[attacked.publish(attacked.bystander, "bystander")] = time.monotonic()
        time.sleep(EVERY_SECONDS)
    return sent


def first_arrivals(attacked: AdversarySystem) -> dict[str, float]:
    arrived: dict[str, float] = {}
    for request in attacked.receiver.at("/bystander"):
        arrived.setdefault(request.headers["webhook-id"], request.at)
    return arrived
