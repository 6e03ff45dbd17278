"""The training status in the CRM is that of the learner's newest event, whatever order events come in."""

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from examples.conftest import Connect
from examples.events import STRANGE_TEXTS, Event, completed, later, launched
from examples.program import Program

pytestmark = pytest.mark.e2e

TOKEN = "00D!not-a-secret"
RESULTS = {"passed": "Passed", "failed": "Failed", "unknown": "Completed"}


@pytest.fixture
def salesforce(tmp_path: Path) -> Iterator[Program]:
    program = Program("fake_salesforce", tmp_path, {"SALESFORCE_TOKEN": TOKEN})
    program.start()
    yield program
    program.stop()


def settings(salesforce: Program) -> dict[str, str]:
    return {
        "SALESFORCE_URL": f"http://127.0.0.1:{salesforce.port}",
        "SALESFORCE_TOKEN": TOKEN,
        "SALESFORCE_ID_FIELD": "Learner_Id__c",
    }


def contacts(salesforce: Program) -> dict[str, dict[str, Any]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{salesforce.port}/contacts", timeout=10) as response:
        return {contact["Learner_Id__c"]: contact for contact in json.load(response)}


def history(number: int, learner: str) -> list[Event]:
    """Three sessions of a learner: the last one ends as `number` says, at the time of its launch for some."""
    *_, last = results = ["unknown", "failed", list(RESULTS)[number % 3]]
    events = [launched(10 * number + n, later(n), learnerId=learner) for n in range(3)]
    for n, result in enumerate(results):
        at = later(n + (0 if result is last and number % 2 else 0.0001))
        events.append(completed(10 * number + 5 + n, at, learnerId=learner, successStatus=result))
    return events


def order(event: Event) -> tuple[datetime, bool]:
    return datetime.fromisoformat(event["createdAt"]), event["type"] == "session.completed"


def test_the_newest_event_decides_the_status(connect: Connect, salesforce: Program) -> None:
    events = [event for number, learner in enumerate(STRANGE_TEXTS) for event in history(number, learner)]
    events.sort(key=order, reverse=True)
    connect("crm", "session.launched", "session.completed", **settings(salesforce)).publish_through_kills(events)
    found = contacts(salesforce)
    assert len(found) == len(STRANGE_TEXTS)
    for number, learner in enumerate(STRANGE_TEXTS):
        fits = len(learner) <= 255 and min(learner) >= " "
        value = learner if fits else hashlib.sha256(learner.encode()).hexdigest()
        last = max(history(number, learner), key=order)
        assert found[value] == {
            "Learner_Id__c": value,
            "LastName": learner[:80],
            "Training_Status__c": RESULTS[last["data"]["successStatus"]],
            "Training_Status_Time__c": last["createdAt"],
        }


def test_within_a_session_the_sequence_decides(connect: Connect, salesforce: Program) -> None:
    passed = completed(1, later(0), sessionId="sess_1", sequence=3)
    # Another process's clock is ahead, and this event comes last.
    late = completed(2, later(5), sessionId="sess_1", successStatus="unknown", sequence=2)
    crm = connect("crm", "session.launched", "session.completed", **settings(salesforce))
    crm.publish([passed, launched(3, later(1), sessionId="sess_1", sequence=1), late])
    crm.wait_for(3)
    assert contacts(salesforce)["learner-42"]["Training_Status__c"] == "Passed"
    # The next session's launch is newer, whatever its number.
    crm.publish([launched(4, later(2), sequence=1)])
    crm.wait_for(4)
    assert contacts(salesforce)["learner-42"]["Training_Status__c"] == "In progress"


def test_an_update_waits_while_the_crm_is_down(connect: Connect, salesforce: Program) -> None:
    crm = connect("crm", "session.completed", **settings(salesforce))
    salesforce.stop()
    crm.publish([completed(1)])
    crm.program.wait_for_failure("evt_1")
    salesforce.start()
    crm.wait_for(1)
    assert contacts(salesforce)["learner-42"]["Training_Status__c"] == "Passed"
