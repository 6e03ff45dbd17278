"""The demo on the embedded broker and SQLite, with a limited number of events."""

import os
import re
import subprocess
import sys

import pytest

from real.process import heed_ctrl_c

pytestmark = pytest.mark.e2e


def test_a_bounded_demo_accounts_for_every_event() -> None:
    command = [sys.executable, "-m", "streams", "demo", "--events", "40", "--exit"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^40 events × 4 webhooks .*: every one accounted for$", done.stdout, re.MULTILINE)
    # Without a terminal: the links once, a line for each event, and nothing of a system that has ended.
    links, *events = done.stdout.split("\npublished ")
    assert len(events) == 40
    assert "deliveries list" in links
    assert re.search(r"^  http://127\.0\.0\.1:\d+/sign-in/[\w-]{43}$", links, re.MULTILINE)
    assert re.search(r"^The API: http://127\.0\.0\.1:\d+/docs$", links, re.MULTILINE)
    assert re.search(r"sk_[\w-]{43}$", links)
    assert "http" not in events[-1]
    assert done.stdout.endswith("\nThe demo has ended, and its data is deleted.\n")


def test_the_demo_ends_cleanly_on_ctrl_c() -> None:
    command = [sys.executable, "-m", "streams", "demo"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    assert running.stdout is not None
    assert "starting the stages" in running.stdout.readline()
    running.send_signal(2)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 0, errors
    assert "Traceback" not in errors
