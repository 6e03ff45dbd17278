"""The receivers to copy pass the exam, and a copy with a fault fails just there."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import parts
from builders import SECRET
from conftest import left_out
from examples.mailbox import Mailbox, write_csv
from examples.program import RECEIVERS, Program
from streams.cli.app import app

pytestmark = pytest.mark.slow

# Each fault: the file of the copy, what is written instead of what, and the checks that fail.
FAULTS = {
    "Python verifies nothing": (
        *("receiver.py", "verifier.verify(body, dict(request.headers))", "json.loads(body)"),
        ["signature", "time"],
    ),
    "Python wants each event once": ("receiver.py", "INSERT OR IGNORE", "INSERT", ["duplicate"]),
    "Python reads little": ("receiver.py", "MAX_BODY = 1024 * 1024", "MAX_BODY = 1024", ["size"]),
}


def settings_of(name: str, mailbox: Mailbox, folder: Path) -> dict[str, str]:
    if name == "crm":
        return {"SALESFORCE_URL": "http://127.0.0.1:9", "SALESFORCE_TOKEN": "t", "SALESFORCE_ID_FIELD": "Id__c"}
    if name == "certificate":
        return {
            **mailbox.settings,
            "ISSUER": "Acme Learning",
            "LEARNERS": write_csv(folder / "learners.csv", ("learner", "name", "email")),
            "COURSES": write_csv(folder / "courses.csv", ("package", "title")),
        }
    if name == "compliance":
        due_dates = write_csv(folder / "due.csv", ("learner", "package", "due"))
        return {**mailbox.settings, "MAIL_TO": "ada@acme.example.com", "DUE_DATES": due_dates, "GRACE_HOURS": "24"}
    return {}


def failed(program: Program) -> list[str]:
    """The checks that a running receiver fails."""
    program.start()
    try:
        done = CliRunner().invoke(app, ["exam", f"http://127.0.0.1:{program.port}/", "--secret", SECRET, "--json"])
    finally:
        program.stop()
    names: list[str] = json.loads(done.stdout)["failed"]
    assert done.exit_code == (1 if names else 0)
    return names


@pytest.mark.parametrize("name", ["warehouse", "billing", "crm", "certificate", "compliance"])
def test_a_receiver_to_copy_passes(name: str, mailbox: Mailbox, tmp_path: Path) -> None:
    if name == "certificate" and parts.fonts() is None:
        left_out("fonts for certificates")
    settings = settings_of(name, mailbox, tmp_path)
    assert failed(Program(name, tmp_path, {"WEBHOOK_SECRET": SECRET, **settings})) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_copy_with_a_fault_fails_just_there(fault: str, tmp_path: Path) -> None:
    file, right, wrong, checks = FAULTS[fault]
    copy = shutil.copytree(RECEIVERS, tmp_path / "copy")
    text = (copy / file).read_text()
    assert text.count(right) == 1
    (copy / file).write_text(text.replace(right, wrong))
    command = (sys.executable, copy / "warehouse.py")
    assert failed(Program("copy", tmp_path, {"WEBHOOK_SECRET": SECRET}, command)) == checks
