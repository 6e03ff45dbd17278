"""Held deliveries, replays and test events, through real processes, Kafka and PostgreSQL."""

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver, header
from e2e.system import System, until

pytestmark = pytest.mark.e2e


@pytest.fixture
def system(running: System) -> System:
    """Started once for this module."""
    return running


def publish(platform: Platform, account_id: str, event_ids: list[str]) -> None:
    for event_id in event_ids:
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{number}" for number in range(count)]


@pytest.mark.parametrize(("choice", "ends_as"), [("deliver", "delivered"), ("keep", "dead"), ("discard", "discarded")])
def test_the_choice_at_enabling_decides_about_held(
    system: System, platform: Platform, receiver: Receiver, choice: str, ends_as: str
) -> None:
    mine = system.account()
    webhook_id = system.webhook(mine, receiver.url("/crm"))["id"]
    system.run("webhooks", "pause", webhook_id)
    publish(platform, mine, ids("held", 40))
    until(lambda: system.states(webhook_id) == {"held": 40}, message="all held")
    assert not receiver.requests

    system.run("webhooks", "enable", webhook_id, "--held", choice)
    until(lambda: system.states(webhook_id) == {ends_as: 40}, message=f"all {ends_as}")
    publish(platform, mine, ["evt_new"])
    until(lambda: "evt_new" in receiver.ids("/crm"), message="what came after the pause")
    wanted = ids("held", 40) if choice == "deliver" else []
    assert sorted(receiver.ids("/crm")) == sorted([*wanted, "evt_new"])
    assert {header(request, "webhook-attempt") for request in receiver.requests} == {"1"}


def test_held_deliveries_arrive_oldest_first(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    webhook_id = system.webhook(mine, receiver.url("/crm"), "--max-concurrency", "1")["id"]
    system.run("webhooks", "pause", webhook_id)
    for event_id in ids("held", 12):
        publish(platform, mine, [event_id])
        until(lambda: len(system.deliveries(webhook_id)) == len(platform.acknowledged), message="each event recorded")
    system.run("webhooks", "enable", webhook_id)
    until(lambda: system.states(webhook_id) == {"delivered": 12}, message="all delivered")
    assert receiver.ids("/crm") == ids("held", 12)


def test_a_replayed_dead_letter_has_the_same_bytes(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/crm"] = lambda request: 500 if header(request, "webhook-id") == "evt_bad" else 200
    webhook_id = system.webhook(mine, receiver.url("/crm"))["id"]
    publish(platform, mine, ["evt_bad"])
    until(lambda: system.states(webhook_id) == {"dead": 1}, message="a dead letter")
    [dead] = system.run("dead-letters", "list", "--webhook", webhook_id, "--reason", "exhausted", "--json")

    del receiver.responses["/crm"]
    [job] = system.run("dead-letters", "retry", "--all", "--yes", "--webhook", webhook_id, "--json")
    assert (job["status"], job["done"]) == ("finished", 1)
    until(lambda: system.states(webhook_id) == {"delivered": 1}, message="delivered")
    assert len({request.body for request in receiver.at("/crm")}) == 1
    seen = system.run("deliveries", "show", dead["id"], "--json")
    assert [(a["generation"], a["number"]) for a in seen["attempts"]] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert system.run("dead-letters", "list", "--account", mine, "--json") == []


def test_a_test_is_sent_at_once_to_a_paused_webhook(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/crm"] = lambda request: 500
    webhook_id = system.webhook(mine, receiver.url("/crm"))["id"]
    system.run("webhooks", "pause", webhook_id)
    for _ in range(6):
        done = system.attempt("webhooks", "test", webhook_id, "--json")
        assert done.returncode == 1
        assert '"state": "failed"' in done.stdout
        assert '"status": 500' in done.stdout
    del receiver.responses["/crm"]
    sent = system.run("webhooks", "test", webhook_id, "--event", "session.scored", "--json")
    assert (sent["state"], sent["payload"]["test"]) == ("delivered", True)
    assert len(receiver.requests) == 7
    [webhook] = system.run("webhooks", "list", "--account", mine, "--json")
    assert webhook["pauseReason"] == "manual"
    assert system.run("dead-letters", "list", "--account", mine, "--json") == []
