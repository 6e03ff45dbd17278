"""`make examples`: the five receivers beside the demo, as its customers."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from streams.core.errors import Misconfigured
from streams.demo.receivers import read_receivers

RUN = Path(__file__).parents[2] / "examples" / "run.py"
NAMES = ("crm", "certificate", "warehouse", "billing", "compliance")


@pytest.mark.e2e
def test_the_receivers_run_beside_the_demo(tmp_path: Path) -> None:
    demo = Path(sys.executable).with_name("scorm-webhooks")
    command: list[str | Path] = [sys.executable, RUN, "--events", "60", "--exit"]
    env = {**os.environ, "DEMO": str(demo)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"60 events for 5 webhooks = \d+ delivered: every one accounted for", done.stdout)
    assert "The receivers have done the work for every event." in done.stdout
    places = done.stdout.rpartition("Where to look:")[2]
    assert [line.split()[0] for line in places.splitlines() if line.strip()] == list(NAMES)
    folder = tmp_path / ".scorm-webhooks" / "examples"
    with duckdb.connect(folder / "warehouse" / "warehouse.duckdb", read_only=True) as warehouse:
        passed = warehouse.execute("SELECT count(*) FROM events WHERE success_status = 'passed'").fetchall()
        assert warehouse.execute("SELECT count(*) FROM events").fetchall() == [(60,)]
        [(launches,)] = warehouse.execute("SELECT count(*) FROM events WHERE type = 'session.launched'").fetchall()
    assert [(len(list((folder / "certificate").glob("*.pdf"))),)] == passed
    [shown] = [
        line.partition("billing ")[2].strip() for line in places.splitlines() if line.strip().startswith("billing")
    ]
    env = {"PATH": os.environ["PATH"]}
    invoice = subprocess.run(
        shown, shell=True, env=env, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert sum(int(line.split(",")[2]) for line in invoice.splitlines()[1:]) == launches > 0


def test_a_receiver_that_ends_is_named(tmp_path: Path) -> None:
    demo = tmp_path / "demo"
    demo.write_text("#!/bin/sh\nsecret=$(dirname $3)/certificate/webhook.secret; touch $secret\nexec sleep 60\n")
    demo.chmod(0o700)
    env = {**os.environ, "DEMO": str(demo)}
    done = subprocess.run([sys.executable, RUN], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "error: certificate has ended: error: WEBHOOK_SECRET must be" in done.stderr


@pytest.mark.parametrize("text", [None, "{", "[1]", '[{"name": "crm"}]', "{}", "[]"])
def test_a_wrong_list_of_receivers_is_named(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "customers.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(Misconfigured, match=r"--receivers: .* must be a JSON list"):
        read_receivers(path)


def test_a_list_of_receivers_is_read(tmp_path: Path) -> None:
    path = tmp_path / "customers.json"
    row = {"name": "crm", "says": "s", "url": "http://127.0.0.1:1/", "events": ["*"], "secretFile": "crm.secret"}
    path.write_text(json.dumps([row]))
    [customer] = read_receivers(path)
    assert (customer.name, customer.url, customer.event_types) == ("crm", "http://127.0.0.1:1/", ["*"])
