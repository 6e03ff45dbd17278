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
    assert "40 events × 4 webhooks" in done.stdout
    assert "every one accounted for" in done.stdout
    assert "deliveries list" in done.stdout
    assert re.search(r"http://127\.0\.0\.1:\d+/sign-in/[\w-]{43} ", done.stdout)
    assert re.search(r"the API: http://127\.0\.0\.1:\d+/docs, key:", done.stdout)
    assert re.search(r"sk_[\w-]{43} ", done.stdout)


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
