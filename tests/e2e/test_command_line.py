"""A failed command prints one line and has an exit code; it shows no traceback."""

import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import parts
from conftest import random_prefix
from e2e.system import System, until
from real.process import heed_ctrl_c

pytestmark = pytest.mark.e2e

EVENT = (
    '{"type":"package.updated","accountId":"acc_1","createdAt":"2026-04-10T14:32:00Z",'
    '"data":{"packageId":"pkg_1","version":"2"}}'
)


@pytest.fixture
def system(tmp_path: Path) -> System:
    """Commands with a SQLite database."""
    system = System(tmp_path, {"SCORM_WEBHOOKS_TOPIC_PREFIX": random_prefix()})
    del system.env["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]
    return system


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The only line of a failed command."""
    [line] = done.stderr.splitlines()
    assert (done.returncode, line[:7]) == (code, "error: "), done.stderr
    return line


@pytest.mark.parametrize("command", [["accounts", "create", "Acme"], ["deliveries", "list"], ["dead-letters", "list"]])
def test_before_a_migration_a_command_says_what_to_run(system: System, command: list[str]) -> None:
    assert "`scorm-webhooks db upgrade` makes an empty one" in one_line(system.attempt(*command), 2)


def test_without_kafka_a_command_says_why_in_one_line(system: System) -> None:
    system.env["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    system.run("db", "upgrade")
    account = system.account()
    create = ("webhooks", "create", "--account", account, "--url", "https://example.com/hooks", "--json")
    test = ("webhooks", "test", system.run(*create)["id"])
    commands = (("topics", "plan"), ("topics", "apply"), ("events", "publish", "-"), test)
    event = EVENT.replace("acc_1", account)
    with ThreadPoolExecutor() as threads:
        for done in threads.map(lambda command: system.attempt(*command, stdin=event), commands):
            error = one_line(done, 3)
            assert "Kafka does not answer: KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:1 (" in error
            assert error.endswith("Connection refused)")
            assert done.stdout == ""


def test_the_version_is_printed(system: System) -> None:
    release, _, commit = system.run("--version").strip().partition("+g")
    assert release == version("scorm-webhooks")
    # A wheel names its commit; a checkout has none.
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=parts.ROOT, capture_output=True, text=True)
    assert head.stdout.startswith(commit.removesuffix(".dirty"))


def test_the_address_of_a_killed_up_is_not_used(system: System) -> None:
    (system.folder / ".scorm-webhooks").mkdir()
    broker = system.folder / ".scorm-webhooks" / "broker.json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broken: list[object] = [{"bootstrap": f"127.0.0.1:{port}", "pid": 1}, {}, [], {"bootstrap": None}]
    for left in broken:
        broker.write_text(json.dumps(left))
        error = one_line(system.attempt("events", "publish", "-", stdin=EVENT), 2)
        assert "start `scorm-webhooks up` first" in error


def test_an_unwritable_data_directory_is_named(system: System) -> None:
    system.env["SCORM_WEBHOOKS_DATA_DIR"] = "/proc/self"
    for command in (["up"], ["webhooks", "list"]):
        error = system.attempt(*command)
        assert error.returncode in (2, 3)
        assert "Traceback" not in error.stderr
        assert error.stderr.splitlines()[-1].startswith("error: SCORM_WEBHOOKS_DATA_DIR: /proc/self")


@pytest.mark.parametrize("command", ["accounts list", "accounts list --json", "--help", "keys generate"])
def test_a_full_output_is_one_line(system: System, command: str) -> None:
    system.run("db", "upgrade")
    with open("/dev/full", "w") as full:
        done = running(system, command, stdout=full)
        _, error = done.communicate(timeout=60)
    assert (done.returncode, error) == (3, b"error: standard output: No space left on device\n")


@pytest.mark.parametrize("command", ["accounts list", "--help"])
def test_a_closed_output_is_quiet(system: System, command: str) -> None:
    system.run("db", "upgrade")
    done = running(system, command, stdout=subprocess.PIPE)
    assert done.stdout
    done.stdout.close()
    done.stdout = None
    _, error = done.communicate(timeout=60)
    assert error == b""
    assert done.returncode == 1


def test_ctrl_c_is_quiet(system: System) -> None:
    (system.folder / ".scorm-webhooks").mkdir()
    fifo = system.folder / "events"
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as broker:
        left = {"bootstrap": f"127.0.0.1:{broker.getsockname()[1]}"}
        (system.folder / ".scorm-webhooks" / "broker.json").write_text(json.dumps(left))
        done = running(system, f"events publish {fifo}", stdout=subprocess.PIPE)
        with open(fifo, "w"):  # returns once the command opens it
            done.send_signal(signal.SIGINT)
        # The end of the file wakes a read that began just after the signal came.
        error = done.communicate(timeout=20)
    assert (done.returncode, error) == (130, (b"", b""))


def actions(system: System) -> list[str]:
    return [entry["action"] for entry in system.run("audit", "list", "--json")]


def test_ctrl_c_leaves_a_replay_running(system: System) -> None:
    system.env["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    system.run("db", "upgrade")
    url = "http://127.0.0.1:9/hook"
    made = system.run("webhooks", "create", "--account", system.account(), "--url", url, "--json")
    done = running(system, f"deliveries replay {made['id']} --since 2026-04-10T10:00:00Z --yes", stdout=subprocess.PIPE)
    until(lambda: done.poll() is not None or "webhook.replayed" in actions(system), 60, "the job started", 0.3)
    assert done.poll() is None, done.communicate()
    done.send_signal(signal.SIGINT)
    _, error = done.communicate(timeout=20)
    assert done.returncode == 130, error
    line = error.decode().splitlines()[-1]
    job_id = line.split("`jobs show ")[1].split("`")[0]
    assert line.startswith("still running: see `jobs show ")
    assert system.run("jobs", "show", job_id, "--json")["status"] == "running"
    second = system.attempt("deliveries", "replay", made["id"], "--since", "2026-04-10T10:00:00Z", "--yes")
    assert f"{job_id}: wait for its end, or cancel it" in one_line(second, 1)


def running(system: System, command: str, **streams: Any) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, "-m", "streams", *command.split()]
    return subprocess.Popen(
        arguments, env=system.env, cwd=system.folder, stderr=subprocess.PIPE, preexec_fn=heed_ctrl_c, **streams
    )
