"""The helper of the receivers: what it stores, what it refuses, and when it does the work."""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import receiver

from builders import SECRET
from examples.events import Event, completed
from examples.program import RECEIVERS, Program

pytestmark = pytest.mark.slow

# What each receiver needs beside WEBHOOK_SECRET, DATA_DIR and PORT.
MAIL = {"SMTP_URL": "smtp://127.0.0.1:1?tls=none", "MAIL_FROM": "acme@example.com"}
SETTINGS: dict[str, dict[str, str]] = {
    "billing": {},
    "certificate": {**MAIL, "ISSUER": "Acme", "LEARNERS": os.devnull, "COURSES": os.devnull},
    "compliance": {**MAIL, "MAIL_TO": "boss@example.com", "DUE_DATES": os.devnull, "GRACE_HOURS": "24"},
    "crm": {"SALESFORCE_URL": "http://127.0.0.1:1", "SALESFORCE_TOKEN": "t", "SALESFORCE_ID_FIELD": "Learner_Id__c"},
    "warehouse": {},
}
COMMON = ("WEBHOOK_SECRET", "DATA_DIR", "PORT")


@pytest.fixture
def inbox() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(receiver.INBOX)
    return db


def store(inbox: sqlite3.Connection, *events: Event) -> None:
    for event in events:
        inbox.execute("INSERT INTO inbox (id, body) VALUES (?, ?)", (event["id"], json.dumps(event)))


def work_off(inbox: sqlite3.Connection, work: Callable[[Event], object]) -> None:
    while receiver.work_on_next(inbox, work):
        pass


def test_events_are_worked_on_in_the_order_they_came(inbox: sqlite3.Connection) -> None:
    seen: list[str] = []
    store(inbox, completed(2), completed(1))
    work_off(inbox, lambda event: seen.append(event["id"]))
    assert seen == ["evt_2", "evt_1"]


def test_a_failure_stops_no_other_event(inbox: sqlite3.Connection) -> None:
    seen: list[str] = []

    def work(event: Event) -> None:
        if event["id"] == "evt_1":
            raise ValueError("no such learner")
        seen.append(event["id"])

    store(inbox, completed(1), completed(2))
    work_off(inbox, work)
    assert seen == ["evt_2"]
    failed = inbox.execute("SELECT id, failures, error FROM inbox WHERE done_at IS NULL").fetchall()
    assert failed == [("evt_1", 1, "ValueError('no such learner')")]


def test_failed_work_runs_again_when_it_is_due(inbox: sqlite3.Connection) -> None:
    store(inbox, completed(1))
    work_off(inbox, lambda event: 1 / 0)
    work_off(inbox, lambda event: pytest.fail("it is not due yet"))
    inbox.execute("UPDATE inbox SET due_at = due_at - 1")
    seen: list[Event] = []
    work_off(inbox, seen.append)
    assert seen == [completed(1)]
    assert inbox.execute("SELECT error FROM inbox").fetchall() == [(None,)]


def test_the_wait_after_a_failure_is_an_hour_at_most(inbox: sqlite3.Connection) -> None:
    store(inbox, completed(1))
    inbox.execute("UPDATE inbox SET failures = 5000")
    work_off(inbox, lambda event: 1 / 0)
    [(failures, due_at)] = inbox.execute("SELECT failures, due_at FROM inbox")
    assert failures == 5001
    assert due_at - time.time() <= 3600


# -- as a process --------------------------------------------------------------------------------------------------


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    running = Program("warehouse", tmp_path, {"WEBHOOK_SECRET": SECRET})
    yield running
    running.stop()


def test_a_test_event_is_accepted_and_not_worked_on(program: Program) -> None:
    program.start()
    assert program.post({**completed(1), "test": True}) == 204
    assert program.post(completed(2)) == 204
    program.wait_for(1)


def test_what_the_inbox_holds_is_done_after_a_start(program: Program) -> None:
    with sqlite3.connect(program.folder / "inbox.sqlite", isolation_level=None) as inbox:
        inbox.executescript(receiver.INBOX)
        store(inbox, completed(1), completed(2))
    program.start()
    program.wait_for(2)


def test_a_receiver_ends_when_its_port_is_taken(program: Program) -> None:
    program.start()
    settings = {**program.env, "PATH": os.environ["PATH"]}
    second = subprocess.run([sys.executable, RECEIVERS / "warehouse.py"], env=settings, timeout=60, capture_output=True)
    assert b"address already in use" in second.stderr


@pytest.mark.parametrize(
    ("name", "missing"), [(name, one) for name, more in SETTINGS.items() for one in (*COMMON, *more)]
)
def test_a_missing_setting_is_one_line(name: str, missing: str, tmp_path: Path) -> None:
    settings = {"WEBHOOK_SECRET": SECRET, "DATA_DIR": str(tmp_path), "PORT": "1", **SETTINGS[name]}
    del settings[missing]
    done = subprocess.run([sys.executable, RECEIVERS / f"{name}.py"], env=settings, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {missing} must be ")
    assert len(done.stderr.splitlines()) == 1


WRONG = (
    ("PORT", "http"),
    ("PORT", ""),
    ("WEBHOOK_SECRET", "whsec_é"),
    ("DATA_DIR", "/no/such/folder"),
    ("DATA_DIR", ""),
)


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_one_line(name: str, value: str, tmp_path: Path) -> None:
    settings = {"WEBHOOK_SECRET": SECRET, "DATA_DIR": str(tmp_path), "PORT": "1", name: value}
    done = subprocess.run([sys.executable, RECEIVERS / "warehouse.py"], env=settings, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {name} must be ")
    assert len(done.stderr.splitlines()) == 1


def test_the_helper_stays_short() -> None:
    assert len((RECEIVERS / "receiver.py").read_text().splitlines()) <= 95
