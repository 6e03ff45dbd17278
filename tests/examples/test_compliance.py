"""A due date that passes without a completion is one mail."""

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import compliance
import pytest

from e2e.system import until
from examples.conftest import Connect
from examples.customer import KILLS
from examples.events import STRANGE_TEXTS, Event, completed
from examples.mailbox import Mailbox, write_csv

HEADER = ("learner", "package", "due")


def times() -> tuple[str, datetime]:
    """A due date an hour ago, and the time a minute before it."""
    due_at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    return due_at.isoformat().replace("+00:00", "Z"), due_at - timedelta(minutes=1)


def message_id(training: compliance.Training) -> str:
    return f"<overdue-{hashlib.sha256(repr(training).encode()).hexdigest()}@acme.example.com>"


@pytest.mark.e2e
def test_a_due_date_without_completion_is_one_mail(connect: Connect, mailbox: Mailbox, tmp_path: Path) -> None:
    due, before = times()
    events: list[Event] = []
    wanted = {}
    rows = []
    for n, learner in enumerate(STRANGE_TEXTS):
        for package in ("in_time", "late", "never", "incomplete"):
            rows.append(compliance.Training(learner, package, due))
            if package != "in_time":
                wanted[message_id(rows[-1])] = rows[-1]
        rows.append(compliance.Training(learner, "never", "2999-12-31"))
        events.append(completed(10 * n, before + timedelta(hours=2), learnerId=learner, packageId="in_time"))
        events.append(completed(10 * n + 1, before, learnerId=learner, packageId="in_time"))
        events.append(completed(10 * n + 2, before + timedelta(minutes=2), learnerId=learner, packageId="late"))
        unfinished = {"completionStatus": "incomplete", "packageId": "incomplete"}
        events.append(completed(10 * n + 3, before, learnerId=learner, **unfinished))
    settings = {
        **mailbox.settings,
        "MAIL_TO": "manager@acme.example.com",
        "DUE_DATES": write_csv(tmp_path / "due.csv", HEADER, *rows),
        "GRACE_HOURS": "24",
    }
    program = connect("compliance", "session.completed", **settings).publish_through_kills(events)
    assert mailbox.mails == {}
    for kill in range(KILLS):
        program.kill()
        program.start(GRACE_HOURS="0")
        until(lambda kill=kill: mailbox.received > 5 * kill, 30, program.log)  # type: ignore[misc]
    until(lambda: mailbox.mails.keys() >= wanted.keys(), 30, program.log)
    assert mailbox.mails.keys() == wanted.keys()
    assert mailbox.received <= len(wanted) + KILLS
    for key, training in wanted.items():
        body = mailbox.mails[key].get_body()
        assert body is not None
        assert all(word in body.get_content() for word in training.learner.splitlines())
        assert f"Package: {training.package}\nDue: {due}" in body.get_content()


@pytest.mark.parametrize(
    ("due", "due_at"),
    [
        ("2026-05-01", datetime(2026, 5, 1, 23, 59, 59, 999999, UTC)),
        ("2026-05-01T12:00:00Z", datetime(2026, 5, 1, 12, tzinfo=UTC)),
        ("2026-05-01T12:00:00+02:00", datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ],
)
def test_a_due_date_is_a_day_or_a_time(due: str, due_at: datetime) -> None:
    assert compliance.Training("a", "b", due).due_at == due_at


@pytest.mark.parametrize("due", ["2026-05-01T12:00:00", "tomorrow", "", "1.5.2026"])
def test_a_wrong_due_date_is_an_error(due: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "due.csv", HEADER, ("a", "b", due))
    with pytest.raises(ValueError, match=r"no zone|Invalid isoformat"):
        list(compliance.trainings(path))
