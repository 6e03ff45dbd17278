"""A stage waits for what it needs, and logs once that it is missing."""

import asyncio

import pytest

from fakes import FakeTelemetry
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.outage import Outages
from streams.runtime import startup_checks
from streams.runtime.deployment import Deployment
from streams.runtime.startup_checks import StartupChecks

SECONDS = 20


async def test_a_missing_topic_is_waited_for_and_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_checks, "RETRY_SECONDS", 0.01)
    telemetry, reasons = FakeTelemetry(), list[str]()
    with EmbeddedBroker() as broker:
        deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap})
        checks = StartupChecks(["deliveries"])
        waiting = asyncio.create_task(checks.wait(deployment, Outages(telemetry), reasons.append))
        async with asyncio.timeout(SECONDS):
            while len(reasons) < 3:
                await asyncio.sleep(0.01)
            broker.create("deliveries", 1)
            await waiting
    assert "missing topics: deliveries; run `scorm-webhooks topics apply`" in reasons[0]
    assert [event for event, _ in telemetry.logged] == ["prerequisite_missing", "prerequisite_met"]


async def test_a_broker_that_is_away_is_waited_for_and_logged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup_checks, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(startup_checks, "REQUEST_SECONDS", 0.05)
    telemetry, reasons = FakeTelemetry(), list[str]()
    deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    waiting = asyncio.create_task(StartupChecks(["deliveries"]).wait(deployment, Outages(telemetry), reasons.append))
    async with asyncio.timeout(SECONDS):
        while len(reasons) < 3:
            await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert [event for event, _ in telemetry.logged] == ["broker_unreachable"]
