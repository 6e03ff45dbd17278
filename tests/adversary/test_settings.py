"""A stage with a wrong setting that only it can check ends at start with one line.

The checks of every stage are in `tests/house/test_misconfiguration.py`.
"""

import json
import subprocess
import sys

import pytest

from adversary.system import AdversarySystem

pytestmark = pytest.mark.e2e

MISCONFIGURED = 2
# A process starts slowly on a loaded machine.
SECONDS = 60
STEERING = "\x1b[2J\r\n"


# The stage ends before it changes anything, so one system is enough.
@pytest.mark.parametrize("any_system", ["embedded"], indirect=True)
@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        ("deliver", {"SCORM_WEBHOOKS_CA_FILE": "/nowhere"}),
        ("notify", {"SCORM_WEBHOOKS_CA_FILE": "/nowhere", "SMTP_URL": "smtp://127.0.0.1:25?tls=none"}),
        ("notify", {"SMTP_URL": "mail.example.com"}),
        ("api", {"SCORM_WEBHOOKS_API_HOST": "203.0.113.1"}),
        ("api", {"SCORM_WEBHOOKS_ENCRYPTION_KEYS": "short"}),
        ("record", {"SCORM_WEBHOOKS_HEALTH_HOST": "203.0.113.1"}),
        ("record", {"DATABASE_URL": f"junk{STEERING}"}),
        ("publish", {"DATABASE_URL": "mysql://user:secret-canary@127.0.0.1/name"}),
        ("fan-out", {"SCHEMA_REGISTRY_URL": "junk"}),
        ("fan-out", {"SCHEMA_REGISTRY_URL": "htp://user:secret-canary@registry.example.com"}),
        ("notify", {"SMTP_URL": "smtp://user:secret-canary@[mail.example.com"}),
        ("api", {"SCORM_WEBHOOKS_PUBLIC_URL": "https://user:secret-canary@hooks.example.com"}),
        ("deliver", {"KAFKA_CONFIG_NONSENSE": "1"}),
        ("deliver", {"KAFKA_CONFIG_ACKS": "0"}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_stage_that_cannot_start_ends_in_one_line(
    attacked: AdversarySystem, stage: str, settings: dict[str, str]
) -> None:
    own = {"KAFKA_BOOTSTRAP_SERVERS": attacked.bootstrap, "SCORM_WEBHOOKS_HEALTH_PORT": "0"}
    environ = {**attacked.system.env, **own, **settings}
    command = [sys.executable, "-m", "streams", stage]
    done = subprocess.run(
        command, env=environ, cwd=attacked.system.folder, capture_output=True, text=True, timeout=SECONDS
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (MISCONFIGURED, ""), done.stderr
    assert all(line.isprintable() for line in lines)
    [fatal] = [logged for logged in map(json.loads, lines) if logged["level"] == "critical"]
    assert fatal["event"] == "misconfigured"
    assert next(iter(settings)) in fatal["why"]
    assert "secret-canary" not in done.stderr
