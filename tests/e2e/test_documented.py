"""What the documents say to type runs, with values for its placeholders: each command, and each call of curl."""

import json
import re
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from house.test_docs import command_of
from house.test_snippets import PAGES, blocks, commands

from e2e.receiver import Receiver
from e2e.system import System, until
from e2e.up import await_ready, running_up
from real.process import free_ports

pytestmark = pytest.mark.e2e

TESTS = Path(__file__).parents[1]
# One of them is of learner-42, who is erased.
EVENTS = 42
OPERATOR_KEY = "an-operators-key-of-the-platform"
# Beginnings of commands that need more than one system, or do not end by themselves, with the test that runs them.
ELSEWHERE = {
    "api": "e2e/test_api_processes.py",
    "api-keys create": "e2e/test_documented.py",
    "db upgrade --grant-to": "e2e/conftest.py",
    "deliver": "e2e/system.py",
    "exam": "e2e/test_start_pages.py",
    "fan-out": "e2e/system.py",
    "jobs cancel": "cli/test_replays.py",
    "listen": "browser/test_ten_minutes.py",
    "login": "cli/test_profiles.py",
    "maintain": "chaos/supervisor.py",
    "meter": "chaos/meters.py",
    "notify": "chaos/soak.py",
    "publish": "e2e/system.py",
    "record": "e2e/system.py",
    "restore": "e2e/test_restore.py",
    "run": "e2e/test_run_stages.py",
    "topics acls": "e2e/test_acls.py",
    "topics apply": "e2e/test_schedule.py",
    "topics plan": "e2e/test_schedule.py",
    "topics skip": "e2e/test_newer_record.py",
    "trigger": "browser/test_ten_minutes.py",
    "up": "e2e/test_up.py",
}


def lines() -> list[str]:
    """Each command of the documents, once. The name of a command alone is none if the command needs arguments."""
    found = {shlex.join(words): words for page in PAGES for words in commands(page.read_text())}
    return sorted(line for line, words in found.items() if not is_name_alone(words) and not runs_elsewhere(line))


def is_name_alone(words: list[str]) -> bool:
    command, rest = command_of(words)
    return words == ["invalid", "replay"] or (not rest and any(parameter.required for parameter in command.params))


def runs_elsewhere(line: str) -> bool:
    return any(line == beginning or line.startswith(f"{beginning} ") for beginning in ELSEWHERE)


@dataclass(frozen=True)
class World:
    """A running system with one of each thing that a command may name."""

    system: System
    api: str
    key: str
    names: dict[str, str]
    # By the option before it, or by the first word of the command.
    ids: dict[str, str]

    def filled(self, words: list[str]) -> list[str]:
        """The words with values for the placeholders of the documents."""
        before, found = words[0], list[str]()
        for word in words:
            found.append(self.ids[before] if word in ("<id>", "…") else self.names.get(word, word))
            before = word if word.startswith("--") else words[0]
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("documented")
    [port] = free_ports(1)
    env = {"SCORM_WEBHOOKS_API_PORT": str(port), "SCORM_WEBHOOKS_OPERATOR_KEYS": f"ada={OPERATOR_KEY}"}
    receiver = Receiver()
    receiver.responses["/refuses"] = lambda _: 410
    try:
        with running_up(folder, env) as (system, _):
            await_ready(system)
            yield made(system, receiver, f"http://127.0.0.1:{port}")
    finally:
        receiver.close()


def made(system: System, receiver: Receiver, api: str) -> World:
    """Deliveries in each state, a record that is invalid, and a job."""
    account, other = system.account(), system.account()
    key = system.run("api-keys", "create", account, "--name", "tests", "--json")["apiKey"]
    webhook = system.webhook(account, receiver.url("/hook"))["id"]
    system.webhook(other, receiver.url("/refuses"))
    pull = system.run("webhooks", "create", "--account", account, "--pull", "--json")["id"]
    event = {"type": "session.completed", "createdAt": "2026-04-10T14:32:00Z"}
    data = {
        "packageId": "pkg_1",
        "completionStatus": "completed",
        "successStatus": "passed",
        "totalTime": "PT1M",
    }
    # More than two pulls take.
    written = [
        {
            "id": f"evt_{number}",
            "accountId": account,
            **event,
            "data": {"sessionId": f"sess_{number}", "learnerId": f"learner-{number}", **data},
        }
        for number in range(1, EVENTS + 1)
    ]
    written.append({**written[0], "id": "evt_refused", "accountId": other})
    system.run("events", "publish", "-", stdin="\n".join(map(json.dumps, written)))
    bootstrap = re.findall(r"Kafka: (\S+)", (system.folder / "up.out").read_text())[0]
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("session-events", b"not Avro")
    assert producer.flush(20) == 0
    del producer  # Its thread would look for the broker after its end.
    until(lambda: len(listed(system, "--state", "delivered")) == EVENTS, 60, "deliveries", 0.3)
    until(lambda: listed(system, "--state", "dead"), 60, "a dead letter", 0.3)
    until(lambda: system.run("invalid", "list", "--json"), 60, "an invalid record", 0.3)
    [invalid] = [record["id"] for record in system.run("invalid", "list", "--json")]
    replay = ("deliveries", "replay", webhook, "--since", "2026-04-10T14:32:00Z", "--yes", "--json")
    job = system.run(*replay)["id"]
    leased = json.loads(system.run("webhooks", "pull", pull, "--max", "1", "--wait", "20"))
    names = {
        "$WEBHOOK": pull,
        "$account": account,
        "<account>": account,
        "<address>": "ops@example.com",
        "<learner>": "learner-unknown",
        "<webhook>": webhook,
        "ACCOUNT": account,
        "EMAIL": "ada@example.com",
        "ID": "evt_1",
        "acc_1": account,
        "evt_1": "evt_refused",
        "f59a7469-…": leased["id"],
        "wh_01HYX9": webhook,
    }
    ids = {
        "--account": account,
        "--event": "evt_1",
        "--since": "2026-04-10T14:32:00Z",
        "--state": "delivered",
        "--type": "session.completed",
        "--until": datetime.now(UTC).isoformat(),
        "--webhook": webhook,
        "accounts": account,
        "invalid": invalid,
        "jobs": job,
        "webhooks": webhook,
    }
    return World(system, api, key, names, ids)


def listed(system: System, *options: str) -> list[Any]:
    found: list[Any] = system.run("deliveries", "list", *options, "--json")
    return found


@pytest.mark.parametrize("line", lines())
def test_a_command_of_the_documents_runs(world: World, line: str) -> None:
    words = world.filled(shlex.split(line))
    command, rest = command_of(words)
    # There is no terminal for a question.
    if any("--yes" in parameter.opts for parameter in command.params) and "--yes" not in rest:
        words.append("--yes")
    if words[:2] in (["webhooks", "create"], ["deliveries", "retry"]) and "--account" not in words:
        # An integrator's command, whose key is of one account.
        words += ["--account", world.names["ACCOUNT"]]
    done = world.system.attempt(*words)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


def test_what_runs_elsewhere_does() -> None:
    for beginning, file in ELSEWHERE.items():
        text = (TESTS / file).read_text()
        assert all(f'"{word}"' in text or f" {word} " in text for word in beginning.split()), f"{file}: {beginning}"


# -- calls -----------------------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, str]]:
    """Each call of curl to the API, with its page."""
    for page in PAGES:
        for block in blocks(page.read_text(), "sh"):
            for found in statements(block):
                if found.startswith("curl ") and "$API" in found:
                    yield page.stem, found


def statements(block: str) -> Iterator[str]:
    """The commands of a block: one may have several lines, within quotes or before a backslash's end of line."""
    whole = ""
    for line in block.replace("\\\n", " ").splitlines():
        whole += f"{line.strip()}\n"
        try:
            shlex.split(whole, comments=True)
        except ValueError:  # a quotation is open
            continue
        yield whole.strip()
        whole = ""


@pytest.mark.parametrize(("page", "call"), calls(), ids=lambda text: text[:60])
def test_a_call_of_the_documents_succeeds(world: World, page: str, call: str) -> None:
    variables = {
        "$API": world.api,
        "$OPERATOR": OPERATOR_KEY,
        "$KEY": world.key,
        "$ACCOUNT": world.names["ACCOUNT"],
        "$WEBHOOK": world.names["$WEBHOOK" if page == "pull" else "<webhook>"],
        "f59a7469-…": world.names["f59a7469-…"],
    }
    for name, value in variables.items():
        call = call.replace(name, value)
    status, text = sent(call)
    assert 200 <= status < 300, text


def sent(call: str) -> tuple[int, str]:
    """What curl does with these options, and no others."""
    words = shlex.split(call)[1:]
    method, url, headers, data = None, "", dict[str, str](), None
    while words:
        word = words.pop(0)
        if word == "-X":
            method = words.pop(0)
        elif word == "-H":
            name, _, value = words.pop(0).partition(": ")
            headers[name] = value
        elif word == "-d":
            data = words.pop(0).encode()
        elif word != "-s":
            assert not word.startswith("-"), f"curl's option {word} is not known here"
            url = word
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=40) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
