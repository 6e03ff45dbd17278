"""Customer text cannot control a terminal, and no input ends a command with a traceback."""

import json
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adversary.misbehaving_endpoint import ODD_BODY, ODD_HEADERS, listening
from adversary.system import Account, AdversarySystem
from builders import EXAMPLE
from e2e.system import until
from streams.__main__ import main

pytestmark = pytest.mark.e2e

# Clear screen, overwrite the line, set the title, C1 introducer, right-to-left override, line separators.
CONTROL_TEXT = "\x1b[2J\r0 errors\x1b]0;pwned\x07\x9b31m\u202egnp.exe\u2028next\x7f\x85end"
# Control, format (bidi) and line separator characters, except line feeds.
STEERING = {"Cc", "Cf", "Zl", "Zp"}
BAD_INPUT = 2
MAX_LINES = 21
MAX_CHARACTERS = 64 * 1024


@dataclass
class Done:
    """The result of a command."""

    code: int
    stdout: str
    stderr: str


Command = Callable[..., Done]


@pytest.fixture
def command(attacked: AdversarySystem, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command in this process; a new process would take a second each time."""
    monkeypatch.chdir(attacked.system.folder)
    # Wide, so that long texts do not wrap.
    monkeypatch.setenv("COLUMNS", "1000")
    for name, value in attacked.system.env.items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["scorm-webhooks", *arguments])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def publish(command: Command, tmp_path: Path) -> Command:
    """Run `events publish` with a text."""

    def run(text: str) -> Done:
        file = tmp_path / "events"
        file.write_text(text)
        return command("events", "publish", str(file))

    return run


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "JSON"])
def test_a_customers_text_cannot_control_a_terminal(
    attacked: AdversarySystem, account: Account, command: Command, as_json: tuple[str, ...]
) -> None:
    changed = attacked.call(
        "PATCH", f"/v1/webhooks/{register(attacked, account)}", {"description": CONTROL_TEXT}, key=account.key
    )
    assert changed.status == 200
    assert_no_control_characters(output(command, "webhooks", "list", "--account", account.id, *as_json), "0 errors")


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["table", "JSON"])
@pytest.mark.parametrize("behaviour", [ODD_BODY, ODD_HEADERS], ids=["body", "headers"])
def test_a_response_cannot_control_a_terminal(
    attacked: AdversarySystem, account: Account, command: Command, behaviour: Any, as_json: tuple[str, ...]
) -> None:
    with listening(behaviour) as endpoint:
        webhook_id = attacked.register(account, endpoint.url())
        attacked.publish(account)
        until(
            lambda: [row for row in attacked.deliveries(account, webhook_id) if row["attemptCount"]], 20, "an attempt"
        )
        [row] = attacked.deliveries(account, webhook_id)
        assert_no_control_characters(output(command, "deliveries", "show", row["id"], *as_json), "server_error")
        assert_no_control_characters(
            output(command, "deliveries", "list", "--account", account.id, *as_json), row["id"][:8]
        )


def test_an_operators_text_cannot_control_a_terminal(attacked: AdversarySystem, command: Command) -> None:
    named = attacked.open_account(CONTROL_TEXT)
    for as_json in ((), ("--json",)):
        assert_no_control_characters(output(command, "accounts", "list", *as_json), named.id)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("junk", "line 1"),
        ("\x1b[2J\r", "line 1"),
        ("null", "line 1"),
        ("[]", "line 1"),
        ("{}", "line 1"),
        ("NaN", "line 1"),
        ("[" * 200_000, "line 1"),
        ('{"a":' * 200_000, "line 1"),
        ('{"type":' + "9" * 10_000 + "}", "line 1"),
        ("x" * 20_000_000, "line 1"),
        ('{"type":"' + "x" * 5_000_000 + '"}', "line 1"),
        ('{"\\u001b[2J":"\\u202e"}', "line 1"),
        ("junk\n" * 10_000, "line 1"),
        ('{"type":"\\ud800"}', "line 1"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_invalid_input_ends_with_a_message(publish: Command, text: str, named: str) -> None:
    assert_refused(publish, text, named)


def test_invalid_standard_input_ends_with_a_message(attacked: AdversarySystem) -> None:
    done = attacked.system.attempt("events", "publish", "-", stdin="[" * 200_000)
    assert (done.returncode, done.stdout) == (BAD_INPUT, "")
    assert done.stderr.startswith("error: line 1")
    assert "Traceback" not in done.stderr


def test_an_unknown_account_ends_with_a_message(publish: Command) -> None:
    assert_refused(publish, line("evt_nobody", "acc_nobody"), "accountId")


def test_one_invalid_line_publishes_nothing(attacked: AdversarySystem, account: Account, publish: Command) -> None:
    webhook_id = register(attacked, account)
    assert_refused(publish, line("evt_first", account.id) + "\njunk\n", "line 2")
    last = attacked.publish(account)
    until(lambda: attacked.deliveries(account, webhook_id), 20, "the event after it")
    assert [row["eventId"] for row in attacked.deliveries(account, webhook_id)] == [last]


def test_a_line_separator_in_a_text_does_not_end_the_line(
    attacked: AdversarySystem, account: Account, publish: Command
) -> None:
    attacked.register(account, attacked.receiver.url("/separators"))
    event_id = attacked.new_id("evt_separator")
    text = line(event_id, account.id, learnerId="one\u2028two\u2029three\x85four")
    assert publish(text).code == 0
    until(lambda: attacked.receiver.has_some("/separators", event_id), 20, "the event")
    [request] = attacked.receiver.at("/separators")
    assert json.loads(request.body)["data"]["learnerId"] == "one\u2028two\u2029three\x85four"


# ------------------------------------------------------------------------------------------------------------------


def register(attacked: AdversarySystem, account: Account) -> str:
    return attacked.register(account, attacked.receiver.url("/cli"))


def line(event_id: str, account_id: str, **changes: Any) -> str:
    """An event as an input line."""
    event = {
        "id": event_id,
        "accountId": account_id,
        "type": "session.completed",
        "createdAt": "2026-04-10T14:32:00Z",
        "data": {**EXAMPLE, **changes},
    }
    return json.dumps(event, ensure_ascii=False)


def output(command: Command, *arguments: str) -> str:
    """Run a command and return its stdout."""
    done = command(*arguments)
    assert (done.code, done.stderr) == (0, "")
    return done.stdout


def control_characters(text: str) -> set[str]:
    return {character for character in text.replace("\n", "") if unicodedata.category(character) in STEERING}


def assert_no_control_characters(text: str, expected: str) -> None:
    assert expected in text
    assert control_characters(text) == set()


def assert_refused(publish: Command, text: str, named: str) -> None:
    """Exit code 2, nothing on stdout, and on stderr a few lines that begin with `error: `."""
    done = publish(text)
    assert (done.code, done.stdout) == (BAD_INPUT, "")
    lines = done.stderr.splitlines()
    assert named in lines[0]
    assert all(one.startswith("error: ") for one in lines)
    assert len(lines) <= MAX_LINES
    assert len(done.stderr) <= MAX_CHARACTERS
    assert control_characters(done.stderr) == set()
