"""A changed retry schedule: waiting retries are on time, and an empty retired tier can be removed."""

import time
from functools import partial
from itertools import product

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver, header
from e2e.system import STAGES, System, owned, until

pytestmark = pytest.mark.e2e

# Longer than it takes to stop every stage after the first attempts.
RETIRED = "12s"
RETIRED_SECONDS = 12.0
LATE_SECONDS = 1.0
PARTITIONS = 4
# What `deliver` reads with a schedule of two tiers: first attempts, the bulk, test events, the tiers.
FAMILY_READ = 5
CUSTOMERS = ("/crm", "/warehouse")


def publish(platform: Platform, account_id: str, event_ids: list[str]) -> None:
    for event_id in event_ids:
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()


def plan_of(system: System, topic: str) -> list[str]:
    """The lines of `topics plan` about a topic."""
    plan = system.run("topics", "plan", "--json")
    return [line["why"] for line in plan if line["topic"].endswith(topic) and line["action"] == "retired"]


def test_a_retired_tier_is_drained_and_can_be_removed(system: System, platform: Platform, receiver: Receiver) -> None:
    system.env["SCORM_WEBHOOKS_RETRY_SCHEDULE"] = RETIRED
    # Clients notice a deleted topic at their next metadata refresh.
    system.env["KAFKA_CONFIG_TOPIC_METADATA_REFRESH_INTERVAL_MS"] = "1000"
    system.prepare()
    system.start()
    mine = system.account()
    # Two failures of two events: one too few for a pause.
    for path in CUSTOMERS:
        system.webhook(mine, receiver.url(path))
        receiver.responses[path] = lambda request: 500 if int(header(request, "webhook-attempt")) < 3 else 200
    publish(platform, mine, ["evt_1", "evt_2"])
    until(lambda: system.states() == {"waiting": 4} and {row["tier"] for row in system.deliveries()} == {RETIRED})

    # Before they are due, because a second failure in a schedule of one tier is final.
    for stage in STAGES:
        assert system.stop(stage) == 0, system.log(stage)[-2000:]

    system.env["SCORM_WEBHOOKS_RETRY_SCHEDULE"] = "1s,2s"
    kept = "no longer in the schedule, but still read"
    assert plan_of(system, f"deliveries.retry.{RETIRED}") == [f"{kept}; 4 records still wait in it"]
    system.run("topics", "apply")
    refused = system.attempt("topics", "apply", "--remove-retired")
    assert refused.returncode == 2
    assert f"deliveries.retry.{RETIRED}: 4 records still wait in it" in refused.stderr
    system.start()
    back_at = time.monotonic()

    until(lambda: system.states() == {"delivered": 4}, message=lambda: f"everything delivered: {system.deliveries()}")
    tries = [request for path in CUSTOMERS for request in receiver.at(path)]
    for path, event_id in product(CUSTOMERS, ["evt_1", "evt_2"]):
        first, second, third = (r.at for r in tries if (r.path, header(r, "webhook-id")) == (path, event_id))
        assert second >= first + RETIRED_SECONDS
        assert second <= max(first + RETIRED_SECONDS, back_at) + LATE_SECONDS
        assert 0 <= third - second - 2 <= LATE_SECONDS, "the second attempt uses the second tier of the new schedule"

    until(lambda: plan_of(system, f"deliveries.retry.{RETIRED}") == [f"{kept}; no records still wait in it"])
    system.run("topics", "apply", "--remove-retired")
    assert plan_of(system, f"deliveries.retry.{RETIRED}") == []
    until(lambda: owned(system) == PARTITIONS * FAMILY_READ, message="the partitions of the tier revoked")
    receiver.responses.clear()
    publish(platform, mine, ["evt_after"])
    for path in CUSTOMERS:
        until(partial(receiver.has_some, path, "evt_after"), message="an event after the removal")
    assert system.is_ready("deliver")
    assert not any(line["level"] == "warning" for line in system.log_events("deliver") if "logger" not in line)


def test_a_replayed_retry_is_not_sent_again_when_due(system: System, platform: Platform, receiver: Receiver) -> None:
    system.env["SCORM_WEBHOOKS_RETRY_SCHEDULE"] = "15s"
    system.prepare()
    system.start()
    mine = system.account()
    receiver.responses["/crm"] = lambda request: 500 if request.number == 1 else 200
    webhook_id = system.webhook(mine, receiver.url("/crm"))["id"]
    publish(platform, mine, ["evt_1"])
    until(lambda: [row["tier"] for row in system.deliveries(webhook_id)] == ["15s"], message="the delivery waiting")
    [waiting] = system.deliveries(webhook_id)
    system.run("deliveries", "retry", waiting["id"])
    until(lambda: system.states(webhook_id) == {"delivered": 1}, 10, "delivered before the due time")
    dropped = partial(system.metric, "deliver", "retries_superseded_total")
    until(lambda: dropped() == 1, 40, "the old retry dropped at its due time")
    first, second = (request.at for request in receiver.at("/crm"))
    assert second - first < 15
