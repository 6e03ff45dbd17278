"""A learner is erased from a running system, and nothing brings the data back."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import Broker
from e2e.conftest import prepared
from e2e.learning_platform import LAST_SPRING, Platform, encoded
from e2e.receiver import Received, Receiver, Response
from e2e.system import System, until
from real.postgres import Postgres

pytestmark = pytest.mark.e2e

ADA = "ada.lovelace@uni.example"
MANY = 3000
TRACES = (ADA, "lovelace", "sess_of_ada")


@pytest.fixture
def system(kafka: Broker, postgres: Postgres, topic_prefix: str, tmp_path: Path) -> Iterator[System]:
    """Stages with one tier, which is longer than an erasure."""
    schedule = {"SCORM_WEBHOOKS_RETRY_SCHEDULE": "12s"}
    for system in prepared(kafka, postgres, topic_prefix, tmp_path, **schedule):
        system.start()
        yield system


def launched(account: str, event_id: str, learner: str = ADA, at: datetime = LAST_SPRING) -> bytes:
    session = f"sess_of_{learner.partition('.')[0]}"
    data = {"sessionId": session, "packageId": "pkg_1", "dispatchId": None, "learnerId": learner}
    return encoded(event_id, "session.launched", account, ("scormwebhooks.v1.SessionLaunched", data), at)


def publish(platform: Platform, account: str, event_id: str, learner: str = ADA, at: datetime = LAST_SPRING) -> None:
    platform.publish(event_id, launched(account, event_id, learner, at))
    platform.flush()


def erase(system: System, account: str, learner: str = ADA) -> dict[str, Any]:
    erasure: dict[str, Any] = system.run("learners", "erase", account, learner, "--yes", "--json")
    assert (erasure["status"], erasure["propagated"]) == ("finished", True)
    return erasure


def traces(system: System) -> list[str]:
    """The rows of every table that have a trace of the learner."""
    tables = system._rows("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'")
    rows = [f"{table['name']}: {row}" for table in tables for row in system._rows(f"SELECT * FROM {table['name']}")]
    return [row for row in rows if any(trace in row for trace in TRACES)]


def row_of(system: System, webhook_id: str, event_id: str) -> dict[str, Any]:
    rows = [row for row in system.deliveries(webhook_id) if row["event_id"] == event_id]
    return rows[0] if rows else {}


def has_state(system: System, webhook_id: str, event_id: str, state: str) -> bool:
    return row_of(system, webhook_id, event_id).get("state") == state


def echo(status: int, request: Received) -> Response:
    """A response that repeats what it got."""
    return Response(status, request.body, {"X-Learner": json.loads(request.body)["data"]["learnerId"]})


def test_an_erased_learner_is_gone_and_nothing_fires(system: System, platform: Platform, receiver: Receiver) -> None:
    receiver.responses |= {"/good": partial(echo, 200), "/bad": partial(echo, 500)}
    account = system.account()
    good, bad, idle = (system.webhook(account, receiver.url(path))["id"] for path in ("/good", "/bad", "/idle"))
    system.run("webhooks", "pause", idle)
    system.run("webhooks", "test", good)
    publish(platform, account, "evt_of_ada")
    for webhook_id, state in ((good, "delivered"), (bad, "waiting"), (idle, "held")):
        until(partial(has_state, system, webhook_id, "evt_of_ada", state), 30, f"{webhook_id} {state}")
    until(lambda: row_of(system, bad, "evt_of_ada")["tier"], 30, "it waits in the tier")
    assert traces(system) != []
    erasure = erase(system, account)
    # `record` also erases what its batch names, and counts none of it; tests/contract has the exact counts.
    all_counts = {"events": 1, "deliveries": 3, "discarded": 2, "attempts": 2}
    assert all(erasure["erased"][name] <= count for name, count in all_counts.items())
    assert traces(system) == []
    # Another learner's event waits in the same tier, behind it.
    publish(platform, account, "evt_of_grace", "grace")
    until(lambda: receiver.ids("/bad").count("evt_of_grace") == 2, 30, lambda: str(receiver.ids("/bad")))
    assert receiver.ids("/bad").count("evt_of_ada") == 1
    system.run("webhooks", "enable", idle)
    until(partial(has_state, system, idle, "evt_of_grace", "delivered"), 30, "held ones are released")
    assert "evt_of_ada" not in receiver.ids("/idle")
    assert traces(system) == []
    assert set(erase(system, account)["erased"].values()) == {0}


def has_events(system: System, event_ids: set[str]) -> bool:
    return {row["event_id"] for row in system._rows("SELECT event_id FROM events")} == event_ids


def test_records_that_are_read_after_an_erasure_stay_out(
    system: System, platform: Platform, receiver: Receiver
) -> None:
    account = system.account()
    webhook = system.webhook(account, receiver.url("/good"))["id"]
    publish(platform, account, "evt_before")
    receiver.wait_for("/good", {"evt_before"})
    for stage in ("fan-out", "record"):
        system.stop(stage)
    publish(platform, account, "evt_in_topic")
    erase(system, account)
    system.start(("fan-out", "record"))
    publish(platform, account, "evt_new", at=datetime.now(UTC))
    until(partial(has_state, system, webhook, "evt_new", "delivered"), 30, "a new launch is delivered")
    until(partial(has_state, system, webhook, "evt_in_topic", "discarded"), 30, "the old one is erased")
    assert row_of(system, webhook, "evt_in_topic")["reason"] == "erased"
    assert set(receiver.ids("/good")) == {"evt_before", "evt_new"}
    # The record of an attempt may be stored before that of its delivery, which has the event.
    until(partial(has_events, system, {"evt_new"}), 30, "the new event stored, the old one not")
    erase(system, account)
    assert traces(system) == []


def queue_delivery(system: System, platform: Platform, receiver: Receiver) -> tuple[str, str]:
    """Let an event of the learner wait for `deliver`, which is stopped. Returns its account and webhook."""
    account = system.account()
    webhook = system.webhook(account, receiver.url("/crm"))["id"]
    system.stop("deliver")
    publish(platform, account, "evt_of_ada")
    until(partial(has_state, system, webhook, "evt_of_ada", "waiting"), 30, "the delivery waits in its topic")
    return account, webhook


def assert_only_the_other_is_sent(system: System, platform: Platform, receiver: Receiver, account: str) -> None:
    system.launch("deliver")
    # Another learner's event is behind it in the same partition.
    publish(platform, account, "evt_of_grace", "grace")
    receiver.wait_for("/crm", {"evt_of_grace"}, 60)
    assert receiver.ids("/crm") == ["evt_of_grace"]


def test_an_erasure_holds_while_the_database_is_away(
    kafka: Broker, own_postgres: Postgres, topic_prefix: str, receiver: Receiver, tmp_path: Path
) -> None:
    for system in prepared(kafka, own_postgres, topic_prefix, tmp_path):
        system.start()
        platform = Platform(kafka.bootstrap, f"{topic_prefix}session-events")
        account, _ = queue_delivery(system, platform, receiver)
        erase(system, account)
        own_postgres.stop()
        assert_only_the_other_is_sent(system, platform, receiver, account)


def test_many_erasures_are_all_known_before_a_request(system: System, platform: Platform, receiver: Receiver) -> None:
    account, _ = queue_delivery(system, platform, receiver)
    erase(system, account)
    others = "SELECT 'acc_' || n, md5('a' || n) || md5('b' || n) FROM generate_series(1, 30000) n"
    system._rows(f"INSERT INTO dirty_erasures SELECT *, now() FROM ({others}) o RETURNING 1")
    key_id = "(SELECT max(hash_key_id) FROM erased_learners)"
    system._rows(f"INSERT INTO erased_learners SELECT *, {key_id}, now() FROM ({others}) o RETURNING 1")
    until(lambda: not system._rows("SELECT 1 FROM dirty_erasures LIMIT 1"), 120, "all are on the topic")
    assert_only_the_other_is_sent(system, platform, receiver, account)
    assert system.metric("deliver", "erased_learners") == 30001


def test_a_killed_erasure_is_finished_by_maintain(system: System, platform: Platform, receiver: Receiver) -> None:
    account = system.account()
    webhook = system.webhook(account, receiver.url("/idle"))["id"]
    system.run("webhooks", "pause", webhook)
    for number in range(MANY):
        platform.publish(f"evt_{number}", launched(account, f"evt_{number}"), f"sess_{number}")
    platform.flush()
    until(lambda: system.states(webhook) == {"held": MANY}, 120, lambda: str(system.states(webhook)))
    system.launch_command("learners", "erase", account, ADA, "--yes")
    begun = "SELECT 1 FROM erasures WHERE (counts->>'events')::int > 0"
    until(lambda: system._rows(begun), 30, "a portion is erased", 0.005)
    system._commands[-1].kill()
    system.launch("maintain")
    finished = "SELECT counts FROM erasures WHERE finished_at IS NOT NULL"
    until(lambda: system._rows(finished), 60, "the erasure is finished")
    assert system._rows(finished)[0]["counts"]["events"] == MANY
    assert traces(system) == []
    [entry] = system._rows("SELECT details FROM audit_log WHERE action = 'learner.erasure_finished'")
    assert ADA not in json.dumps(entry["details"])
