"""A burst to a fast webhook waits in memory; a slow webhook delays neither its partition nor other webhooks."""

import random
from collections.abc import Iterator
from functools import partial

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.sink import Sink
from e2e.system import System, until
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

BURST = 5_000
SLOW_SECONDS = 9.0


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One partition, so that any blocking would show."""
    folder = tmp_path_factory.mktemp("running")
    for system in prepared(kafka, postgres, random_prefix(), folder, SCORM_WEBHOOKS_DELIVERY_PARTITIONS="1"):
        system.start()
        yield system


@pytest.fixture
def system(running: System) -> System:
    return running


def publish(platform: Platform, account_id: str, prefix: str, count: int) -> set[str]:
    for number in range(count):
        event_id = f"{prefix}_{number}"
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()
    return {f"{prefix}_{number}" for number in range(count)}


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def test_a_burst_to_a_fast_webhook_is_never_held(system: System, platform: Platform, sink: Sink) -> None:
    mine = system.account()
    sink.delays["/fast"] = lambda: random.uniform(0.005, 0.02)
    webhook_id = system.webhook(mine, sink.url("/fast"))["id"]
    held_before = system.metric("deliver", "deliveries_held_total")
    wanted = publish(platform, mine, "burst", BURST)
    until(partial(sink.has_all, "/fast", wanted), 120, "every event")
    until(lambda: system.states(webhook_id) == {"delivered": BURST}, message="every delivery recorded")
    assert system.metric("deliver", "deliveries_held_total") == held_before
    assert len(sink.ids("/fast")) == BURST


def test_a_slow_webhook_does_not_stop_its_partition(system: System, platform: Platform, sink: Sink) -> None:
    mine, other = system.account(), system.account()
    sink.delays["/slow"] = lambda: SLOW_SECONDS
    slow = system.webhook(mine, sink.url("/slow"))["id"]
    system.webhook(other, sink.url("/quick"))
    owed = publish(platform, mine, "slow", 300)
    until(lambda: system.states(slow).get("held", 0) > 100, message="the excess held")
    assert {row["reason"] for row in system.deliveries(slow) if row["state"] == "held"} == {"busy"}

    for round_ in range(3):
        quick = publish(platform, other, f"quick_{round_}", 50)
        until(partial(sink.has_some, "/quick", quick), 5, "the events of the others")
    assert system.states(slow).get("held", 0) > 0, "the slow one is still slow"

    del sink.delays["/slow"]
    until(lambda: system.states(slow) == {"delivered": 300}, 90, "all events of the slow webhook")
    assert sorted(sink.ids("/slow")) == sorted(owed)
