"""What is held flows again, and what people send again goes once: through real processes, Kafka and PostgreSQL."""

import pytest

from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver, header
from e2e.system import System, until

pytestmark = pytest.mark.e2e


@pytest.fixture
def system(running: System) -> System:
    """Started once for all of these stories."""
    return running


def publish(platform: Platform, account_id: str, event_ids: list[str]) -> None:
    for event_id in event_ids:
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}_{number}" for number in range(count)]


@pytest.mark.parametrize(("choice", "ends_as"), [("deliver", "delivered"), ("keep", "dead"), ("discard", "discarded")])
def test_enabling_decides_what_becomes_of_what_was_held(
    system: System, platform: Platform, receiver: Receiver, choice: str, ends_as: str
) -> None:
    mine = system.account()
    hook = system.webhook(mine, receiver.url("/crm"))["id"]
    system.run("webhooks", "pause", hook)
    publish(platform, mine, ids("held", 40))
    until(lambda: system.states(hook) == {"held": 40}, message="all of it held")
    assert not receiver.requests

    system.run("webhooks", "enable", hook, "--held", choice)
    until(lambda: system.states(hook) == {ends_as: 40}, message=f"all of it {ends_as}")
    publish(platform, mine, ["evt_new"])
    until(lambda: "evt_new" in receiver.ids("/crm"), message="what came after the pause")
    wanted = ids("held", 40) if choice == "deliver" else []
    assert sorted(receiver.ids("/crm")) == sorted([*wanted, "evt_new"])
    assert {header(request, "webhook-attempt") for request in receiver.requests} == {"1"}


def test_what_was_held_arrives_oldest_first(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    hook = system.webhook(mine, receiver.url("/crm"), "--max-concurrency", "1")["id"]
    system.run("webhooks", "pause", hook)
    for event_id in ids("held", 12):
        publish(platform, mine, [event_id])
        until(lambda: len(system.deliveries(hook)) == len(platform.acknowledged), message="each in its turn")
    system.run("webhooks", "enable", hook)
    until(lambda: system.states(hook) == {"delivered": 12}, message="all of it delivered")
    assert receiver.ids("/crm") == ids("held", 12)


def test_a_replayed_dead_letter_has_the_same_bytes(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/crm"] = lambda request: 500 if header(request, "webhook-id") == "evt_bad" else 200
    hook = system.webhook(mine, receiver.url("/crm"))["id"]
    publish(platform, mine, ["evt_bad"])
    until(lambda: system.states(hook) == {"dead": 1}, message="a dead letter")
    [dead] = system.run("dead-letters", "list", "--webhook", hook, "--reason", "exhausted", "--json")

    del receiver.responses["/crm"]
    retried = system.run("dead-letters", "retry", "--all", "--webhook", hook, "--json")
    assert retried == {"ids": [dead["id"]], "unknown": []}
    until(lambda: system.states(hook) == {"delivered": 1}, message="it delivered")
    assert len({request.body for request in receiver.at("/crm")}) == 1
    seen = system.run("deliveries", "show", dead["id"], "--json")
    assert [(a["generation"], a["number"]) for a in seen["attempts"]] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
    assert system.run("dead-letters", "list", "--account", mine, "--json") == []


def test_a_test_is_sent_at_once_to_a_paused_webhook(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/crm"] = lambda request: 500
    hook = system.webhook(mine, receiver.url("/crm"))["id"]
    system.run("webhooks", "pause", hook)
    for _ in range(6):
        done = system.attempt("webhooks", "test", hook, "--json")
        assert done.returncode == 1
        assert '"state": "discarded"' in done.stdout
        assert '"status": 500' in done.stdout
    del receiver.responses["/crm"]
    sent = system.run("webhooks", "test", hook, "--event", "session.scored", "--json")
    assert (sent["state"], sent["payload"]["test"]) == ("delivered", True)
    assert len(receiver.requests) == 7
    [webhook] = system.run("webhooks", "list", "--account", mine, "--json")
    assert webhook["pauseReason"] == "manual"
    assert system.run("dead-letters", "list", "--account", mine, "--json") == []
