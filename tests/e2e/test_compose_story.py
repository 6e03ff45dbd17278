"""The demo of deploy/compose.yaml, on real stages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.system import STAGES, System
from real.process import free_ports

pytestmark = pytest.mark.e2e

STORY = Path(__file__).parents[2] / "deploy" / "demo" / "story.py"
OPERATOR_KEY = "an-operator-of-the-story-of-compose"


def test_the_story_ends_when_every_event_has_arrived(system: System) -> None:
    api, receiver = free_ports(2)
    system.env |= {
        "SCORM_WEBHOOKS_API_PORT": str(api),
        "SCORM_WEBHOOKS_OPERATOR_KEYS": f"ada={OPERATOR_KEY}",
    }
    system.start((*STAGES, "api"))
    env = {
        "PATH": os.environ["PATH"],
        "API_URL": f"http://127.0.0.1:{api}",
        "RECEIVER_URL": f"http://127.0.0.1:{receiver}/hook",
        "OPERATOR_KEYS": f"ada={OPERATOR_KEY}",
    }
    done = subprocess.run([sys.executable, STORY], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("every event has arrived\n")
    assert done.stdout.count("its signature is genuine") == 15
