"""Compliance: one mail for each training whose due date passes before the learner completes it.

Settings: WEBHOOK_SECRET, PORT, DATA_DIR; DUE_DATES, a CSV of learner, package, due; SMTP_URL, MAIL_FROM, MAIL_TO;
GRACE_HOURS: an event may come hours late, so a mail waits that long after the due date.
"""

import csv
import hashlib
import logging
import smtplib
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from email.message import EmailMessage
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from receiver import Event, database, serve, setting

TABLES = """CREATE TABLE IF NOT EXISTS completions (learner, package, completed_at, PRIMARY KEY (learner, package));
  CREATE TABLE IF NOT EXISTS escalations (learner, package, due, sent_at, PRIMARY KEY (learner, package, due));"""
EARLIEST = """INSERT INTO completions VALUES (?, ?, ?) ON CONFLICT
  DO UPDATE SET completed_at = min(completed_at, excluded.completed_at)"""
CHECK_SECONDS = 5
logger = logging.getLogger("uvicorn.error")


class Training(NamedTuple):
    """What a learner has to complete, and until when: a day (in UTC) or a time with a zone."""

    learner: str
    package: str
    due: str

    @property
    def due_at(self) -> datetime:
        if len(self.due) == len("2026-05-01"):
            return datetime.combine(date.fromisoformat(self.due), datetime.max.time(), UTC)
        return datetime.fromisoformat(self.due).astimezone(UTC)


def trainings(path: str) -> Iterator[Training]:
    """The lines of the file. ValueError for a due date that is not valid."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file):
            training = Training(row["learner"], row["package"], row["due"])
            if datetime.fromisoformat(training.due).tzinfo is None and "T" in training.due:
                raise ValueError(f"{training.due} has no zone: write such as 2026-05-01T12:00:00Z")
            yield training


class Compliance:
    """Notes completions, and looks for due dates that passed."""

    def __init__(self, due_dates: str, grace: timedelta, mail: "Mail") -> None:
        self._due_dates, self._grace, self._mail = due_dates, grace, mail
        self._db = database("compliance", TABLES)
        self._next_check = 0.0

    def note(self, event: Event) -> None:
        data = event["data"]
        if event["type"] == "session.completed" and data["completionStatus"] == "completed":
            completed_at = datetime.fromisoformat(event["createdAt"]).astimezone(UTC).isoformat(timespec="microseconds")
            self._db.execute(EARLIEST, (data["learnerId"], data["packageId"], completed_at))

    def check(self) -> None:
        """Runs when all received events are noted."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + CHECK_SECONDS
        try:
            overdue = [one for one in trainings(self._due_dates) if one.due_at + self._grace < datetime.now(UTC)]
        except (OSError, ValueError, KeyError) as error:
            logger.warning("DUE_DATES cannot be read (%r); it is read again in %d s", error, CHECK_SECONDS)
            return
        for training in overdue:
            try:
                self._escalate(training)
            except Exception as error:
                logger.warning("a mail was not sent (%s); it is sent later", type(error).__name__)

    def _escalate(self, training: Training) -> None:
        sent = "SELECT 1 FROM escalations WHERE (learner, package, due) = (?, ?, ?)"
        in_time = "SELECT 1 FROM completions WHERE (learner, package) = (?, ?) AND completed_at <= ?"
        due_at = training.due_at.isoformat(timespec="microseconds")
        if self._db.execute(sent, training).fetchall() or self._db.execute(in_time, (*training[:2], due_at)).fetchall():
            return
        self._mail.send(training)
        self._db.execute("INSERT INTO escalations VALUES (?, ?, ?, ?)", (*training, datetime.now(UTC).isoformat()))


class Mail:
    """Sends by SMTP. A crash may send a mail twice: both have the same Message-ID, by which mailboxes drop one."""

    def __init__(self, server: SplitResult, sender: str, to: str) -> None:
        self._server, self._sender, self._to = server, sender, to

    def send(self, training: Training) -> None:
        mail, key = EmailMessage(), hashlib.sha256(repr(training).encode()).hexdigest()
        mail["From"], mail["To"] = self._sender, self._to
        mail["Subject"] = f"Overdue since {training.due}: {training.package}"
        mail["Message-ID"] = f"<overdue-{key}@{self._sender.rpartition('@')[2]}>"
        text = (
            f"Learner: {training.learner}\nPackage: {training.package}\nDue: {training.due}\n\nNot completed in time.\n"
        )
        mail.set_content(text, cte="base64")
        send(mail, self._server)


def send(mail: EmailMessage, server: SplitResult) -> None:
    host, port, context = server.hostname or "", server.port or 0, ssl.create_default_context()
    tls = server.scheme == "smtps"
    with smtplib.SMTP_SSL(host, port, context=context) if tls else smtplib.SMTP(host, port, timeout=20) as smtp:
        if not tls and server.query != "tls=none":
            smtp.starttls(context=context)
        if server.username:
            smtp.login(unquote(server.username), unquote(server.password or ""))
        smtp.send_message(mail)


# -- settings ------------------------------------------------------------------------------------------------------


def smtp_server(text: str) -> SplitResult:
    url = urlsplit(text)
    if url.scheme not in ("smtp", "smtps") or not url.hostname or not url.port:
        raise ValueError(text)
    return url


def due_dates(text: str) -> str:
    list(trainings(text))
    return text


if __name__ == "__main__":
    mail = Mail(
        setting("SMTP_URL", smtp_server, "smtp://user:password@host:587, smtps://host:465 or smtp://host:25?tls=none"),
        setting("MAIL_FROM", str, "the address that mails come from"),
        setting("MAIL_TO", str, "the address that mails go to"),
    )
    compliance = Compliance(
        setting(
            "DUE_DATES",
            due_dates,
            "a CSV file of learner, package, due; a due date is 2026-05-01 or a time with a zone",
        ),
        timedelta(hours=setting("GRACE_HOURS", float, "hours to wait after a due date for late events, such as 24")),
        mail,
    )
    serve(compliance.note, compliance.check)
