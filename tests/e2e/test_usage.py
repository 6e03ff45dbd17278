"""The running system counts each launch once and tells of a threshold once, whatever dies."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until

pytestmark = pytest.mark.e2e

LAUNCHES = 1200
LIMIT = 1000
KILLS = 3


def launches_of(system: System, account: str) -> int:
    return int(system.run("usage", "list", account, "--json")["months"][0]["launches"])


def thresholds(receiver: Receiver) -> Callable[[], list[int]]:
    def found() -> list[int]:
        events = {one.body for one in receiver.at("/usage")}
        return sorted(json.loads(body)["data"]["thresholdPercent"] for body in events)

    return found


def test_launches_count_once_through_kills(system: System, platform: Platform, receiver: Receiver) -> None:
    system.start((*STAGES, "meter"))
    account = system.account()
    system.run("accounts", "update", account, "--plan-limit", str(LIMIT))
    system.run(
        "webhooks", "create", "--account", account, "--url", receiver.url("/usage"), "--events", "usage.threshold"
    )
    until(system.has_published, message="the webhook known to every stage")
    now = datetime.now(UTC)
    for kill in range(KILLS):
        for number in range(kill * LAUNCHES // KILLS, (kill + 1) * LAUNCHES // KILLS):
            # Each event twice, on different partitions.
            for key in ("sess_1", "sess_2"):
                platform.publish(f"evt_{number}", launched(f"evt_{number}", account, at=now), key)
        platform.flush()
        until(lambda: launches_of(system, account) > 0, message="some launches counted")
        for stage in ("meter", "publish"):
            system.kill(stage)
            system.launch(stage)
    for stage in ("meter", "publish"):
        until(partial(system.is_ready, stage), message=f"{stage} ready")
    until(lambda: launches_of(system, account) >= LAUNCHES, 90, lambda: f"{launches_of(system, account)} counted")
    assert launches_of(system, account) == LAUNCHES
    until(lambda: thresholds(receiver)() == [80, 100], 60, lambda: str(thresholds(receiver)()))
    assert len({one.body for one in receiver.at("/usage")}) == 2
    [of_package] = system.run("usage", "show", account, f"{now:%Y-%m}", "--json")
    assert of_package == {"packageId": "pkg_1", "launches": LAUNCHES}
    system.run("accounts", "update", account, "--plan-limit", str(2 * LIMIT))
    assert len({one.body for one in receiver.at("/usage")}) == 2
