"""Readers get every event of a pull webhook and acknowledge each once, whatever dies in the middle."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched
from e2e.pull_reader import PullReader
from e2e.receiver import Receiver
from e2e.system import STAGES, System, until
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.e2e

EVENTS = 240


@pytest.fixture(scope="module")
def system(kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A running system for this file; each test has its own account."""
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("pulls")):
        system.env["SCORM_WEBHOOKS_API_PORT"] = str(free_ports(1)[0])
        system.start((*STAGES, "maintain", "api"))
        yield system


def opened(system: System) -> tuple[str, str, dict[str, Any]]:
    """The URL of the API, the key of a new account, and the account's pull webhook."""
    account = system.run("accounts", "create", "Acme", "--json")
    webhook = system.run("webhooks", "create", "--pull", "--account", account["id"], "--json")
    until(system.has_published, 30, "the webhook is published")
    return f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_API_PORT']}", account["apiKey"], webhook


def publish(platform: Platform, account_id: str, count: int, name: str = "evt") -> set[str]:
    event_ids = {f"{name}_{number}" for number in range(count)}
    for event_id in event_ids:
        platform.publish(event_id, launched(event_id, account_id), key=event_id)
    platform.flush()
    return event_ids


def test_readers_acknowledge_each_event_once_through_kills(system: System, platform: Platform) -> None:
    url, key, webhook = opened(system)
    acknowledged: set[str] = set()
    readers = [PullReader(url, key, webhook, acknowledged) for _ in range(3)]
    for reader in readers:
        reader.start()
    owed: set[str] = set()
    for number, stage in enumerate(("api", "record", "api", "deliver", "publish", "api")):
        owed |= publish(platform, webhook["accountId"], EVENTS // 6, f"evt{number}")
        until(lambda number=number: len(acknowledged) >= number * EVENTS // 6 // 2, 60, "acknowledgements")  # type: ignore[misc]
        system.kill(stage)
        system.launch(stage)
    until(lambda: system.states(webhook["id"]) == {"delivered": EVENTS}, 90, lambda: str(system.states(webhook["id"])))
    for reader in readers:
        reader.stop()
    assert {event_id for reader in readers for event_id in reader.pulled} == owed
    assert [event_id for reader in readers for event_id in reader.late] == []


class Terminal:
    """The command `listen` in a process of its own, which forwards to a receiver."""

    def __init__(self, url: str, key: str, hook: str, folder: Path, *options: str) -> None:
        environ = {"SCORM_WEBHOOKS_API_URL": url, "SCORM_WEBHOOKS_API_KEY": key, "HOME": str(folder)}
        command = [sys.executable, "-m", "streams", "listen", "--forward-to", hook, *options]
        self.process = subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.webhook_id = self.process.stderr.readline().split()[3].rstrip(",")

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=30)
        return self.process.returncode


def test_a_terminal_gets_every_event_through_kills(
    system: System, platform: Platform, receiver: Receiver, tmp_path: Path
) -> None:
    url, key, webhook = opened(system)
    hook, owed = receiver.url("/laptop"), set[str]()
    terminal = Terminal(url, key, hook, tmp_path)
    until(system.has_published, 30, "the temporary webhook is published")
    for number, stage in enumerate(("api", "deliver", "record", "publish", "fan-out")):
        owed |= publish(platform, webhook["accountId"], 20, f"evt{number}")
        until(lambda: len(receiver.ids("/laptop")) > 0, 60, "an event")
        system.kill(stage)
        system.launch(stage)
    states = partial(system.states, terminal.webhook_id)
    until(lambda: states() == {"delivered": len(owed)}, 90, lambda: str(states()))
    assert set(receiver.ids("/laptop")) == owed
    # What a killed terminal has missed, the next one asks for.
    assert terminal.end(signal.SIGKILL) == -signal.SIGKILL
    missed = publish(platform, webhook["accountId"], 20, "missed")
    until(lambda: system.states(webhook["id"]).get("held") == len(owed | missed), 60, "the events are stored")
    terminal = Terminal(url, key, hook, tmp_path, "--since", "1h")
    until(lambda: set(receiver.ids("/laptop")) == owed | missed, 90, "every event")
    assert terminal.end(signal.SIGTERM) == 130


def test_a_stop_of_the_api_sends_its_readers_away(system: System, platform: Platform) -> None:
    url, key, webhook = opened(system)
    reader = PullReader(url, key, webhook, set())
    items: list[object] = []
    waiting = threading.Thread(target=lambda: items.append(reader.pull(waitSeconds=25)), daemon=True)
    waiting.start()
    until(lambda: system.metric("api", "api_connections") == 1, 20, "the reader waits")
    assert waiting.is_alive()
    assert system.stop("api") == 0
    waiting.join(5)
    assert items == [[]]
    system.start(("api",))


def test_what_waits_is_sent_when_the_webhook_has_a_url(system: System, platform: Platform, receiver: Receiver) -> None:
    _, _, webhook = opened(system)
    owed = publish(platform, webhook["accountId"], 20)
    until(lambda: system.states(webhook["id"]) == {"held": 20}, 60, "the events wait for readers")
    changes = ("--url", receiver.url("/till"), "--set", 'delivery="push"')
    system.run("webhooks", "update", webhook["id"], *changes)
    until(lambda: system.states(webhook["id"]) == {"delivered": 20}, 60, lambda: str(system.states(webhook["id"])))
    until(partial(set.issuperset, set(receiver.ids("/till")), owed), 5, "every event")


def test_a_test_event_waits_for_a_reader(system: System) -> None:
    url, key, webhook = opened(system)
    shown = system.run("webhooks", "test", webhook["id"], "--json")
    assert (shown["state"], shown["reason"]) == ("held", "pull")
    [item] = PullReader(url, key, webhook, set()).pull()
    assert item["id"] == shown["id"]
