"""Bad configuration is one line that names the variable and says what would be right."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fakes import FakeReport
from streams import prerequisites
from streams.__main__ import MISCONFIGURED, main
from streams.core.errors import Misconfigured
from streams.wiring import Deployment


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SCORM_WEBHOOKS_RETRY_SHEDULE", "1s", "did you mean SCORM_WEBHOOKS_RETRY_SCHEDULE?"),
        ("SCORM_WEBHOOKS_RETRY_SCHEDULE", "2m,30s", "each wait must be longer"),
        ("SCORM_WEBHOOKS_RETRY_SCHEDULE", "soon", "is not a wait such as 30s"),
        ("SCORM_WEBHOOKS_ALLOWED_NETWORKS", "10.0.0.0/99", "SCORM_WEBHOOKS_ALLOWED_NETWORKS"),
        ("SCORM_WEBHOOKS_API_PORT", "tcp://10.0.0.1:80", "enableServiceLinks: false"),
        ("SCORM_WEBHOOKS_SLOTS", "many", "SCORM_WEBHOOKS_SLOTS"),
        ("SCORM_WEBHOOKS_SIGNATURE_HEADER", "X Y", "SCORM_WEBHOOKS_SIGNATURE_HEADER"),
        ("SCORM_WEBHOOKS_OPERATOR_KEYS", "ada=too-short", "at least 24 characters"),
        ("SCORM_WEBHOOKS_OPERATOR_KEYS", f"ada={'a' * 24},ada={'b' * 24}", "a name of its own"),
        ("SCORM_WEBHOOKS_API_CONNECTIONS", "0", "SCORM_WEBHOOKS_API_CONNECTIONS"),
    ],
)
def test_a_bad_setting_is_named(name: str, value: str, words: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Deployment.from_environment({name: value})
    text = str(refused.value)
    assert name in text
    assert words in text
    assert "\n" not in text


Part = Callable[[Deployment], object]


@pytest.mark.parametrize(
    ("environ", "part", "words"),
    [
        ({"DATABASE_URL": "mysql://x/y"}, lambda d: d.database_url, "use postgresql:// or sqlite:///"),
        ({"DATABASE_URL": "nonsense"}, lambda d: d.database_url, "DATABASE_URL: must be a URL"),
        ({"DATABASE_URL": "mysql://x/y"}, lambda d: d.generations(FakeReport()), "DATABASE_URL: must be a URL"),
        ({"DATABASE_URL": "postgresql://x/y"}, lambda d: d.sealing, "SCORM_WEBHOOKS_ENCRYPTION_KEYS is not set"),
        ({"SCORM_WEBHOOKS_ENCRYPTION_KEYS": "short"}, lambda d: d.sealing, "32 bytes in url-safe base64"),
        ({"SCORM_WEBHOOKS_RETRY_SCHEDULE": "30s,5d"}, lambda d: d.topics, "longer than half of the topics' retention"),
        ({"SCORM_WEBHOOKS_DATA_DIR": "/nowhere"}, lambda d: d.kafka, "start `scorm-webhooks up` first"),
    ],
)
def test_a_part_that_cannot_be_made_says_what_to_set(environ: dict[str, str], part: Part, words: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        part(Deployment.from_environment(environ))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_command_names_a_broker_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prerequisites, "START_SECONDS", 0.0)
    monkeypatch.setattr(prerequisites, "ASK_SECONDS", 0.1)
    deployment = Deployment.from_environment({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"})
    words = "KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:1 .*; gave up after 0 seconds"
    with pytest.raises(Misconfigured, match=words):
        prerequisites.Prerequisites(["session-events"]).require(deployment)


@pytest.mark.parametrize(
    ("environ", "command", "named"),
    [
        ({"SCORM_WEBHOOKS_RETRY_SHEDULE": "1s"}, "topics plan", "SCORM_WEBHOOKS_RETRY_SHEDULE"),
        ({"SCORM_WEBHOOKS_RETRY_SCHEDULE": "soon"}, "fan-out", "SCORM_WEBHOOKS_RETRY_SCHEDULE"),
        ({"SCORM_WEBHOOKS_ALLOWED_NETWORKS": "10.0.0.0/99"}, "deliver", "SCORM_WEBHOOKS_ALLOWED_NETWORKS"),
        ({"SCORM_WEBHOOKS_API_PORT": "tcp://10.0.0.1:80"}, "record", "SCORM_WEBHOOKS_API_PORT"),
        (
            {"SCORM_WEBHOOKS_ENCRYPTION_KEYS": "short", "DATABASE_URL": "sqlite:///db"},
            "webhooks list",
            "SCORM_WEBHOOKS_ENCRYPTION_KEYS",
        ),
        ({"DATABASE_URL": "mysql://x/y"}, "db upgrade", "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://x/y"}, "webhooks list", "SCORM_WEBHOOKS_ENCRYPTION_KEYS"),
    ],
)
def test_every_command_ends_with_2_and_one_line(
    environ: dict[str, str],
    command: str,
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["scorm-webhooks", *command.split()])
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (MISCONFIGURED, "")
    assert said.err.startswith("error: ")
    assert named in said.err
    assert said.err.count("\n") == 1


def test_the_command_line_ends_with_2_and_that_one_line(tmp_path: Path) -> None:
    environ = {**os.environ, "SCORM_WEBHOOKS_RETRY_SCHEDULE": "soon"}
    command = [sys.executable, "-m", "streams", "deliver"]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: SCORM_WEBHOOKS_RETRY_SCHEDULE: ")
    assert done.stderr.count("\n") == 1
