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
from scorm_webhooks_cli.local_key import make_local_key, write_local_key

pytestmark = pytest.mark.e2e

EVENT = (
    '{"type":"package.updated","accountId":"acc_1","createdAt":"2026-04-10T14:32:00Z",'
    '"data":{"packageId":"pkg_1","version":"2"}}'
)


@pytest.fixture
def bare(tmp_path: Path) -> System:
    """Commands without a running system; a database would be SQLite."""
    bare = System(tmp_path, {"SCORM_WEBHOOKS_TOPIC_PREFIX": random_prefix()})
    del bare.env["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]
    return bare


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The only line of a failed command."""
    [line] = done.stderr.splitlines()
    assert (done.returncode, line[:7]) == (code, "error: "), done.stderr
    return line


def test_before_a_migration_a_command_says_what_to_run(bare: System) -> None:
    assert "`scorm-webhooks db upgrade` makes an empty one" in one_line(bare.attempt("secrets", "reencrypt"), 2)


@pytest.mark.parametrize("command", [["accounts", "create", "Acme"], ["deliveries", "list"], ["operators", "sign-in"]])
def test_without_an_api_a_command_says_what_to_start(bare: System, command: list[str]) -> None:
    assert "start `scorm-webhooks up` or `scorm-webhooks api`" in one_line(bare.attempt(*command), 2)
    file = bare.folder / ".scorm-webhooks" / "api.json"
    # As a kill leaves it.
    write_local_key(file, make_local_key("http://127.0.0.1:1"))
    line = one_line(bare.attempt(*command), 3)
    assert "api.json: http://127.0.0.1:1 does not answer: nothing accepts connections there" in line
    assert "; start `scorm-webhooks up` or `scorm-webhooks api` here" in line


def test_without_kafka_a_command_says_why_in_one_line(bare: System) -> None:
    bare.env["KAFKA_BOOTSTRAP_SERVERS"] = "127.0.0.1:1"
    commands = (("topics", "plan"), ("topics", "apply"), ("events", "publish", "-"))
    with ThreadPoolExecutor() as threads:
        for done in threads.map(lambda command: bare.attempt(*command, stdin=EVENT), commands):
            error = one_line(done, 3)
            assert "Kafka does not answer: KAFKA_BOOTSTRAP_SERVERS is 127.0.0.1:1 (" in error
            assert error.endswith("Connection refused)")
            assert done.stdout == ""


def test_the_version_is_printed(bare: System) -> None:
    release, _, commit = bare.run("--version").strip().partition("+g")
    assert release == version("scorm-webhooks")
    # A wheel names its commit; a checkout has none.
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=parts.ROOT, capture_output=True, text=True)
    assert head.stdout.startswith(commit.removesuffix(".dirty"))


def test_the_address_of_a_killed_up_is_not_used(bare: System) -> None:
    (bare.folder / ".scorm-webhooks").mkdir()
    broker = bare.folder / ".scorm-webhooks" / "broker.json"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broken: list[object] = [{"bootstrap": f"127.0.0.1:{port}", "pid": 1}, {}, [], {"bootstrap": None}]
    for left in broken:
        broker.write_text(json.dumps(left))
        assert "start `scorm-webhooks up` first" in one_line(bare.attempt("invalid", "list"), 2)


def test_an_unwritable_data_directory_is_named(bare: System) -> None:
    bare.env["SCORM_WEBHOOKS_DATA_DIR"] = "/proc/self"
    for command in (["up"], ["secrets", "reencrypt"]):
        error = bare.attempt(*command)
        assert error.returncode in (2, 3)
        assert "Traceback" not in error.stderr
        assert error.stderr.splitlines()[-1].startswith("error: SCORM_WEBHOOKS_DATA_DIR: /proc/self")


@pytest.mark.parametrize("command", ["--help", "keys generate"])
def test_a_full_output_is_one_line(bare: System, command: str) -> None:
    fails_on_a_full_output(bare, command)


def test_a_list_to_a_broken_output_is_one_line(system: System) -> None:
    system.account()
    for command in ("accounts list", "accounts list --json"):
        fails_on_a_full_output(system, command)
        ends_on_a_closed_output(system, command)


def test_a_closed_output_is_quiet(bare: System) -> None:
    ends_on_a_closed_output(bare, "--help")


def fails_on_a_full_output(system: System, command: str) -> None:
    with open("/dev/full", "w") as full:
        done = running(system, command, stdout=full)
        _, error = done.communicate(timeout=60)
    assert (done.returncode, error) == (3, b"error: standard output: No space left on device\n")


def ends_on_a_closed_output(system: System, command: str) -> None:
    done = running(system, command, stdout=subprocess.PIPE)
    assert done.stdout
    done.stdout.close()
    done.stdout = None
    _, error = done.communicate(timeout=60)
    assert error == b""
    assert done.returncode == 1


def test_ctrl_c_is_quiet(bare: System) -> None:
    fifo = bare.folder / "events"
    os.mkfifo(fifo)
    done = running(bare, f"events publish {fifo}", stdout=subprocess.PIPE)
    with open(fifo, "w"):  # returns once the command opens it
        done.send_signal(signal.SIGINT)
    # The end of the file wakes a read that began just after the signal came.
    error = done.communicate(timeout=20)
    assert (done.returncode, error) == (130, (b"", b""))


def actions(system: System) -> list[str]:
    return [entry["action"] for entry in system.run("audit", "list", "--json")]


def test_ctrl_c_leaves_a_replay_running(system: System) -> None:
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
    words = command.split()
    env = {**system.env, **system.api_for(words)}
    return subprocess.Popen(
        [sys.executable, "-m", "streams", *words],
        env=env,
        cwd=system.folder,
        stderr=subprocess.PIPE,
        preexec_fn=heed_ctrl_c,
        **streams,
    )
