"""Run the five receivers as the customers of the demo, with a mail server and a stand-in for Salesforce.

`make examples` runs it. Arguments go to `scorm-webhooks demo`. What the receivers keep stays in FOLDER.
"""

import csv
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent
RECEIVERS = EXAMPLES / "receivers"
FOLDER = Path(".scorm-webhooks", "examples").absolute()
MAIL = FOLDER / "mail"
DEMO = os.environ.get("DEMO") or EXAMPLES.parent / ".venv" / "bin" / "scorm-webhooks"
SECONDS = 120.0
# The demo's learners and packages.
LEARNERS = [f"learner-{number}" for number in range(1, 201)]
PACKAGES = {"pkg_1": "Fire Safety at Work", "pkg_2": "Data Protection – Προστασία δεδομένων", "pkg_3": "First Aid"}
FIRST_NAMES = ["Zoë", "Łukasz", "Amélie", "Søren", "Нина", "Ελένη", "José", "Ayşe", "Jürgen", "Siân", "زينب", "שרה"]
LAST_NAMES = ["O’Brien", "Kowalczyk", "Müller", "Björnsdóttir", "Петрова", "Παππά", "Çelik", "Nguyễn"]


@dataclass
class Example:
    """A receiver, what it is for, and the events that it takes."""

    name: str
    says: str
    events: list[str]
    look: str
    env: dict[str, str] = field(default_factory=dict)
    port: int = 0

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def secret(self) -> Path:
        return self.folder / "webhook.secret"

    def waiting(self) -> int:
        with closing(sqlite3.connect(self.folder / "inbox.sqlite", timeout=30)) as inbox:
            return int(inbox.execute("SELECT count(*) FROM inbox WHERE done_at IS NULL").fetchone()[0])


class Programs:
    """Processes that end with this one. Ctrl-C reaches the demo alone; they end after it."""

    def __init__(self) -> None:
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: list[str | Path], **env: str) -> None:
        with (FOLDER / f"{name}.log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *command],
                env={"PATH": os.environ["PATH"], **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises `RuntimeError` if one has ended."""
        for name, process in self._running.items():
            if process.poll() is not None:
                last = (FOLDER / f"{name}.log").read_text(errors="replace").splitlines()[-1:]
                raise RuntimeError(f"{name} has ended: {' '.join(last)}")

    def stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def write_csv(path: Path, *rows: tuple[str, ...]) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    return str(path)


def name_of(number: int) -> str:
    return f"{FIRST_NAMES[number % len(FIRST_NAMES)]} {LAST_NAMES[number % len(LAST_NAMES)]}"


def make_examples(crm_port: int, token: str, mail_port: int) -> list[Example]:
    """The receivers, with the files that they read."""
    smtp = {"SMTP_URL": f"smtp://127.0.0.1:{mail_port}?tls=none", "MAIL_FROM": "training@acme.example.com"}
    learners = [(one, name_of(number), f"{one}@acme.example.com") for number, one in enumerate(LEARNERS)]
    due = (datetime.now(UTC) + timedelta(seconds=60)).isoformat(timespec="seconds")
    overdue = [(learner, "pkg_1", due) for learner in LEARNERS[::10]]
    here, python = os.path.relpath(FOLDER), os.path.relpath(sys.executable)
    show = f"duckdb.connect('{here}/warehouse/warehouse.duckdb', read_only=True).sql('FROM events')"
    month = f"{datetime.now(UTC):%Y-%m}"
    invoice = f"DATA_DIR={here}/billing PRICE=0.35 {python} {os.path.relpath(RECEIVERS)}/billing.py {month}"
    return [
        Example(
            "crm",
            "sets the training status of contacts",
            ["session.launched", "session.completed"],
            f"curl http://127.0.0.1:{crm_port}/contacts   (while it runs)",
            {
                "SALESFORCE_URL": f"http://127.0.0.1:{crm_port}",
                "SALESFORCE_TOKEN": token,
                "SALESFORCE_ID_FIELD": "Learner_Id__c",
            },
        ),
        Example(
            "certificate",
            "mails a PDF to who has passed",
            ["session.completed"],
            f"{here}/certificate/*.pdf, and the mails in {here}/mail/new",
            {
                **smtp,
                "ISSUER": "Acme Learning",
                "LEARNERS": write_csv(FOLDER / "learners.csv", ("learner", "name", "email"), *learners),
                "COURSES": write_csv(FOLDER / "courses.csv", ("package", "title"), *PACKAGES.items()),
            },
        ),
        Example("warehouse", "has a row for each event", ["*"], f'{python} -c "import duckdb; print({show})"'),
        Example("billing", "counts launches by client", ["session.launched"], invoice),
        Example(
            "compliance",
            "mails when a due date passes",
            ["session.completed"],
            f"grep -l ^Subject:.Overdue {here}/mail/new/*   (due: {due})",
            {
                **smtp,
                "MAIL_TO": "manager@acme.example.com",
                "DUE_DATES": write_csv(FOLDER / "due.csv", ("learner", "package", "due"), *overdue),
                "GRACE_HOURS": "0",
            },
        ),
    ]


def run(arguments: list[str], programs: Programs) -> int:
    crm_port, mail_port, token = free_port(), free_port(), secrets.token_urlsafe()
    examples = make_examples(crm_port, token, mail_port)
    programs.start("fake_salesforce", [RECEIVERS / "fake_salesforce.py"], PORT=str(crm_port), SALESFORCE_TOKEN=token)
    mail = ["-m", "aiosmtpd", "-n", "-l", f"127.0.0.1:{mail_port}", "-c", "aiosmtpd.handlers.Mailbox", str(MAIL)]
    programs.start("mail", list(mail))
    for example in examples:
        example.folder.mkdir()
        example.port = free_port()
    rows = [
        {
            "name": one.name,
            "says": one.says,
            "url": f"http://127.0.0.1:{one.port}/",
            "events": one.events,
            "secretFile": str(one.secret),
        }
        for one in examples
    ]
    customers = FOLDER / "customers.json"
    customers.write_text(json.dumps(rows))
    places = "\n".join(f"  {one.name:<12} {one.look}" for one in examples)
    print(f"Five receivers, the customers of the demo. Where to look, in this directory:\n{places}\n", flush=True)
    demo = subprocess.Popen([DEMO, "demo", "--receivers", customers, *arguments])
    waiting = list(examples)
    try:
        while demo.poll() is None:
            for one in [one for one in waiting if one.secret.exists()]:
                waiting.remove(one)
                env = {"WEBHOOK_SECRET": one.secret.read_text(), "DATA_DIR": str(one.folder), "PORT": str(one.port)}
                programs.start(one.name, [RECEIVERS / f"{one.name}.py"], **env, **one.env)
            programs.check()
            time.sleep(0.2)
    except BaseException:
        demo.terminate()
        demo.wait()
        raise
    if demo.returncode == 0 and not waiting:
        finish(examples, programs)
        print(f"Where to look:\n{places}")
    return demo.returncode


def finish(examples: list[Example], programs: Programs) -> None:
    """Wait until the receivers have worked on all that they received."""
    deadline = time.monotonic() + SECONDS
    while left := {one.name: count for one in examples if (count := one.waiting())}:
        if time.monotonic() > deadline:
            raise RuntimeError(f"not all work is done: {left}; the logs are in {FOLDER}")
        programs.check()
        time.sleep(0.2)
    print("The receivers have done the work for every event.")


def main() -> int:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    programs = Programs()
    # The demo gets Ctrl-C too, and ends by itself.
    signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return run(sys.argv[1:], programs)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        programs.stop()


if __name__ == "__main__":
    sys.exit(main())
