"""A webhook's own rules on real processes: its rate, its retries, its timeout, and its answer to 410."""

import json
from collections.abc import Iterator
from functools import partial

import pytest
import standardwebhooks

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.receiver import Receiver
from e2e.sink import Sink
from e2e.system import System, until
from real.postgres import Postgres

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def running(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("running")):
        system.start()
        yield system


@pytest.fixture
def system(running: System) -> System:
    return running


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()


def publish(platform: Platform, account_id: str, *event_ids: str) -> set[str]:
    for event_id in event_ids:
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()
    return set(event_ids)


def test_no_second_has_more_than_the_rate_and_the_burst(system: System, platform: Platform, sink: Sink) -> None:
    mine, other = system.account(), system.account()
    rules = ("--set", "ratePerSecond=20", "--set", "rateBurst=10")
    webhook_id = system.webhook(mine, sink.url("/rated"), *rules)["id"]
    system.webhook(other, sink.url("/quick"))
    owed = publish(platform, mine, *(f"rated_{number}" for number in range(300)))
    until(lambda: system.states(webhook_id).get("held", 0) > 50, message="the excess held")
    assert {row["reason"] for row in system.deliveries(webhook_id) if row["state"] == "held"} == {"rate"}
    quick = publish(platform, other, *(f"quick_{number}" for number in range(20)))
    until(partial(sink.has_some, "/quick", quick), 5, "the events of the other")
    until(partial(sink.has_all, "/rated", owed), 60, "every event")
    until(lambda: system.states(webhook_id) == {"delivered": 300}, message="every delivery recorded")
    times = [at for _, at in sink.received["/rated"]]
    assert len(times) == 300
    # A request is measured where it arrives. On a busy machine those of half a second come together.
    assert max(sum(start <= at < start + 0.95 for at in times) for start in times) <= 30 + 20 / 2
    # 290 after the burst, at 20 a second; what is released later does not wait for the whole of it.
    assert 14 <= times[-1] - times[0] <= 45


def test_a_webhook_retries_by_its_own_schedule(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/patient"] = lambda request: 500
    webhook_id = system.webhook(mine, receiver.url("/patient"), "--set", 'retries=["1s", "6s"]')["id"]
    publish(platform, mine, "patient")
    until(lambda: system.states(webhook_id) == {"dead": 1}, 30, "the dead letter")
    first, second, third = (request.at for request in receiver.at("/patient"))
    # Six seconds are two waits in the tier of three.
    assert 1 <= second - first < 3
    assert 6 <= third - second < 9


def test_a_probe_that_succeeds_enables_a_webhook(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    answers = [500]
    receiver.responses["/away"] = lambda request: answers[-1]
    rules = ("--set", 'pauseAfter={"failures": 1}', "--set", 'resume="probe"', "--set", 'retries=["1s"]')
    webhook_id = system.webhook(mine, receiver.url("/away"), *rules)["id"]
    owed = publish(platform, mine, *(f"away_{number}" for number in range(5)))
    until(lambda: system.states(webhook_id) == {"held": 5}, message="the pause")
    tried = len(receiver.at("/away"))
    system.make_probe_due(webhook_id)
    until(lambda: len(receiver.at("/away")) == tried + 1, 20, "a probe that fails")
    until(lambda: system.states(webhook_id) == {"held": 5}, message="it is held again")
    [paused] = system.run("webhooks", "list", "--account", mine, "--json")
    assert (paused["status"], paused["probeAt"] > paused["pausedAt"]) == ("paused", True)
    answers.append(204)
    system.make_probe_due(webhook_id)
    until(lambda: system.states(webhook_id) == {"delivered": 5}, 30, "everything delivered")
    receiver.wait_for("/away", owed)
    [enabled] = system.run("webhooks", "list", "--account", mine, "--json")
    assert (enabled["status"], "probeAt" in enabled) == ("active", False)
    [entry] = system.run("audit", "list", "--account", mine, "--action", "webhook.enabled", "--json")
    assert entry["details"] == {"held": "deliver", "reason": "probe"}


def test_another_webhook_gets_the_event_of_a_pause(system: System, platform: Platform, receiver: Receiver) -> None:
    system.launch("notify")
    mine = system.account()
    receiver.responses["/broken"] = receiver.responses["/operations"] = lambda request: 500
    rules = ("--set", 'pauseAfter={"failures": 1}', "--events", "webhook.paused,session.launched")
    broken = system.webhook(mine, receiver.url("/broken"), *rules)["id"]
    operations = system.webhook(mine, receiver.url("/operations"), *rules)["id"]
    publish(platform, mine, "broken")
    # Each of them is paused, and the other one has the event of it; none has its own.
    until(lambda: system.states(broken).get("held") == 2, 30, "the event of the other's pause")
    until(lambda: system.states(operations).get("held") == 2, 30, "the event of the other's pause")
    bodies = [system.run("deliveries", "show", row["id"], "--json") for row in system.deliveries(operations)]
    [notice] = [shown["payload"] for shown in bodies if shown["eventType"] == "webhook.paused"]
    assert notice["data"]["webhookId"] == broken
    assert (notice["data"]["reason"], notice["data"]["pausedHours"]) == ("failures", 0)
    assert notice["data"]["url"] == receiver.url("/broken")


def test_410_may_delete_a_webhook(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/gone"] = lambda request: 410
    webhook_id = system.webhook(mine, receiver.url("/gone"), "--set", 'onGone="delete"')["id"]
    publish(platform, mine, "gone")
    until(lambda: system.run("webhooks", "list", "--account", mine, "--json") == [], message="the deletion")
    until(lambda: system.states(webhook_id) == {"dead": 1}, message="the dead letter")
    until(system.has_published, message="the tombstone")
    publish(platform, mine, "later")
    assert len(receiver.at("/gone")) == 1


def test_a_webhook_gets_only_the_fields_that_it_chooses(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    made = system.webhook(
        *(mine, receiver.url("/few"), "--set", 'filter={"learnerId": "learner-42"}'),
        *("--set", 'fields=["packageId"]', "--set", 'retries=["1s", "2s", "3s", "3s", "3s", "3s"]'),
        *("--set", 'pauseAfter={"failures": 100, "minutes": 0}'),
    )
    system.webhook(mine, receiver.url("/all"))
    # Retries come after a second, and a command may need longer: the endpoint fails until it gets the new form.
    receiver.responses["/few"] = lambda request: 204 if "sessionId" in json.loads(request.body)["data"] else 500
    publish(platform, mine, "few")
    until(lambda: len(receiver.at("/few")) == 1, message="the first attempt")
    system.run("webhooks", "update", made["id"], "--set", 'fields=["packageId", "sessionId"]')
    until(lambda: system.states(made["id"]) == {"delivered": 1}, 30, "the retry")
    receiver.wait_for("/all", {"few"})
    [whole] = receiver.at("/all")
    assert json.loads(whole.body)["data"].keys() > {"sessionId", "learnerId"}
    data = json.loads(whole.body)["data"]
    for request in receiver.at("/few"):
        standardwebhooks.Webhook(made["secret"]).verify(request.body, dict(request.headers))
    first, *_, last = (json.loads(request.body) for request in receiver.at("/few"))
    assert first == json.loads(whole.body) | {"data": {"packageId": "pkg_1"}}
    assert last == json.loads(whole.body) | {"data": {"packageId": "pkg_1", "sessionId": data["sessionId"]}}
    [row] = system.deliveries(made["id"])
    shown = system.run("deliveries", "show", row["id"], "--json")
    assert shown["payload"] == last
    first, *_, last = shown["attempts"]
    assert (first["fields"], last["fields"]) == (["packageId"], ["packageId", "sessionId"])
    assert first["webhookVersion"] < last["webhookVersion"]


def test_a_slow_endpoint_may_have_more_time(system: System, platform: Platform, sink: Sink) -> None:
    mine = system.account()
    sink.delays["/hasty"] = sink.delays["/slow"] = lambda: 2.5
    hasty = system.webhook(mine, sink.url("/hasty"), "--set", "timeoutSeconds=1", "--set", "retries=[]")["id"]
    slow = system.webhook(mine, sink.url("/slow"), "--set", "timeoutSeconds=20")["id"]
    publish(platform, mine, "slow")
    until(lambda: system.states(slow) == {"delivered": 1}, message="the response")
    until(lambda: system.states(hasty) == {"dead": 1}, message="the timeout")
    [row] = system.deliveries(hasty)
    assert "within 1 second" in row["message"]
