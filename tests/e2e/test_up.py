"""`up` on one machine: one command, no broker and no database to bring, found by every other command."""

import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Broker
from e2e.receiver import Receiver
from e2e.system import System, until
from real.process import free_ports

pytestmark = pytest.mark.e2e


@pytest.fixture
def up(tmp_path: Path) -> Iterator[System]:
    """`up` in a data directory of its own, ready."""
    [port] = free_ports(1)
    system = System(tmp_path, {"SCORM_WEBHOOKS_HEALTH_PORT": str(port), "SCORM_WEBHOOKS_API_PORT": "0"})
    del system.env["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]
    with (tmp_path / "up.log").open("ab") as log:
        running = subprocess.Popen([sys.executable, "-m", "streams", "up"], env=system.env, cwd=tmp_path, stderr=log)

    def ready() -> bool:
        try:
            return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2).status == 200)
        except OSError:
            return False

    until(ready, 90, "every stage can work")
    yield system
    running.send_signal(signal.SIGTERM)
    assert running.wait(timeout=40) == 0


def test_an_event_published_from_the_command_line_is_delivered_and_what_waits_is_named_at_the_end(
    up: System, receiver: Receiver
) -> None:
    account = up.run("accounts", "create", "Acme", "--json")["id"]
    up.run("webhooks", "create", "--account", account, "--url", receiver.url("/crm"), "--json")
    event = (
        f'{{"type":"package.updated","accountId":"{account}","createdAt":"2026-04-10T14:32:00Z",'
        '"data":{"packageId":"pkg_1","version":"2"}}'
    )
    [published] = up.run("events", "publish", "-", "--json", stdin=event)["events"]
    event_id = published["id"]
    assert published["webhooks"] == 1
    unknown = up.attempt("events", "publish", "-", stdin=event.replace(account, "acc_nobody"))
    assert unknown.returncode == 1
    assert "line 1: accountId: there is no account acc_nobody" in unknown.stderr
    until(lambda: receiver.ids("/crm") == [event_id], 30, "the event at the customer")
    until(lambda: up.run("deliveries", "list", "--state", "delivered", "--json"), 30, "recorded")


def test_up_ends_with_2_when_a_stage_says_that_it_is_misconfigured(
    kafka: Broker, topic_prefix: str, tmp_path: Path
) -> None:
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap,
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
        "SCORM_WEBHOOKS_API_PORT": "0",
    }
    done = System(tmp_path, env).attempt("up")
    assert done.returncode == 2, done.stderr
    assert "run `scorm-webhooks topics apply`" in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")


def test_a_second_up_in_the_same_directory_is_refused_in_one_line(up: System) -> None:
    second = up.attempt("up")
    assert second.returncode == 2
    assert second.stderr.strip().splitlines()[-1].startswith("error: SCORM_WEBHOOKS_DATA_DIR: another")
