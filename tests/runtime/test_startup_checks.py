"""A stage waits for what it needs, and logs once that it is missing."""

import asyncio
import threading

import pytest

from fakes import FakeTelemetry, no_wait
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.core.errors import ScormWebhooksError, Unavailable
from streams.outage import BROKER, Outages
from streams.runtime.deployment import Deployment
from streams.runtime.startup_checks import MissingPrerequisite, StartupChecks, check_group, wait_until_met

SECONDS = 20


async def test_a_missing_topic_is_waited_for_and_logged_once() -> None:
    telemetry, reasons = FakeTelemetry(), list[str]()
    with EmbeddedBroker() as broker:
        deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap})
        checks = StartupChecks(["deliveries"])
        outages = Outages(telemetry, sleep=no_wait)
        waiting = asyncio.create_task(checks.wait_until_met(deployment, outages, reasons.append))
        async with asyncio.timeout(SECONDS):
            while len(reasons) < 3:
                await asyncio.sleep(0.01)
            broker.create("deliveries", 1)
            await waiting
    assert "missing topics: deliveries; run `scorm-webhooks topics apply`" in reasons[0]
    assert [event for event, _ in telemetry.logged] == ["prerequisite_missing", "prerequisite_met"]


async def test_a_broker_that_is_away_is_waited_for_and_logged_once() -> None:
    telemetry, reasons = FakeTelemetry(), list[str]()
    deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    checks = StartupChecks(["deliveries"], request_timeout_seconds=0.05)
    outages = Outages(telemetry, sleep=no_wait)
    waiting = asyncio.create_task(checks.wait_until_met(deployment, outages, reasons.append))
    async with asyncio.timeout(SECONDS):
        while len(reasons) < 3:
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [event for event, _ in telemetry.logged] == ["broker_unreachable"]


async def test_a_client_that_never_reaches_kafka_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = list[str]()
    with EmbeddedBroker() as broker:
        broker.create("deliveries", 1)
        deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap})
        clients = [NeverConnected(), deployment.topics_admin()]
        monkeypatch.setattr(Deployment, "topics_admin", lambda _: clients.pop(0))
        async with asyncio.timeout(SECONDS):
            checks = StartupChecks(["deliveries"], client_renewal_seconds=0.05)
            await checks.wait_until_met(deployment, Outages(FakeTelemetry(), sleep=no_wait), reasons.append)
    assert set(reasons) == {"no connection"}
    assert clients == []


async def test_a_check_that_hangs_ends_the_process() -> None:
    ended = threading.Event()

    def hang() -> None:
        ended.wait(SECONDS)

    async with asyncio.timeout(SECONDS):
        with pytest.raises(ScormWebhooksError, match="did not end"):
            await wait_until_met(hang, BROKER, Outages(FakeTelemetry()), lambda _: None, timeout_seconds=0.05)
    ended.set()


class NeverConnected:
    """A client that Kafka never answers."""

    def partition_counts(self, seconds: float) -> dict[str, int]:
        raise Unavailable("no connection")


@pytest.mark.parametrize(("client", "other"), [("faust", "rdkafka"), ("librdkafka", "faust-0.15.3")])
def test_a_group_of_another_client_is_named(client: str, other: str) -> None:
    with pytest.raises(MissingPrerequisite, match=rf"group acme.fan-out .*\({other}\).*_FAN_OUT_CONSUMER is {client};"):
        check_group(lambda: [other, other], "acme.fan-out", client)


@pytest.mark.parametrize(("client", "same"), [("librdkafka", "rdkafka"), ("faust", "faust-0.15.3")])
def test_a_group_of_the_same_client_is_joined(client: str, same: str) -> None:
    check_group(lambda: [same], "fan-out", client)
    check_group(list, "fan-out", client)
