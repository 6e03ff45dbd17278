"""The exam says of each fault of a receiver what is wrong, and nothing of a receiver without one."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner, Result

from builders import SECRET
from real.process import free_ports
from streams.cli.app import app

Event = dict[str, Any]


class StudiousReceiver:
    """A receiver without a fault, whose parts a test may replace."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.newest = 0
        self.read_limit = 1024 * 1024
        self.verify: Callable[[bytes, dict[str, str]], Event] = Webhook(SECRET).verify
        self.handle: Callable[[Event], int] = lambda event: 204
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(receiver.respond(body, dict(self.headers.items())))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def respond(self, body: bytes, headers: Mapping[str, str]) -> int:
        if len(body) > self.read_limit:
            return 413
        try:
            event = self.verify(body, {name.lower(): value for name, value in headers.items()})
        except WebhookVerificationError:
            return 401
        return self.handle(event)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[StudiousReceiver]:
    receiver = StudiousReceiver()
    yield receiver
    receiver.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorm_webhooks_cli.exam.SLOW_PAUSE_SECONDS", 0.02)


def exam(url: str, *more: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, ["exam", url, "--secret", SECRET, *more], env=env)


def failed(receiver: StudiousReceiver) -> list[str]:
    done = exam(receiver.url, "--json")
    report = json.loads(done.stdout)
    assert (done.exit_code == 0) is report["passed"] is not bool(report["failed"])
    names: list[str] = report["failed"]
    return names


def test_a_receiver_without_a_fault_passes(receiver: StudiousReceiver) -> None:
    assert failed(receiver) == []
    done = exam(receiver.url)
    assert done.exit_code == 0
    assert "All 12 right." in done.stdout
    assert "The exam sees only responses." in done.stderr


def unverified(body: bytes, headers: dict[str, str]) -> Event:
    event: Event = json.loads(body)
    return event


def test_a_receiver_that_verifies_nothing(receiver: StudiousReceiver) -> None:
    receiver.verify = unverified
    assert failed(receiver) == ["signature", "time"]
    done = exam(receiver.url)
    assert done.exit_code == 1
    assert "WRONG  signature" in done.stdout
    assert "See receiving.html#verify-the-signature" in done.stdout
    api = {"SCORM_WEBHOOKS_API_URL": "https://hooks.example.com", "SCORM_WEBHOOKS_API_KEY": "sk_1"}
    done = exam(receiver.url, env=api)
    assert "See https://hooks.example.com/docs/receiving.html#verify-the-signature" in done.stdout
    # A wrong setting of the API does not stop the exam.
    done = exam(receiver.url, env={"SCORM_WEBHOOKS_API_URL": "https://hooks.example.com"})
    assert "See receiving.html#verify-the-signature" in done.stdout


def test_a_receiver_that_parses_before_it_verifies(receiver: StudiousReceiver) -> None:
    def verify(body: bytes, headers: dict[str, str]) -> Event:
        event: Event = Webhook(SECRET).verify(json.dumps(json.loads(body)).encode(), dict(headers))
        return event

    receiver.verify = verify
    assert "accept" in failed(receiver)


def test_a_receiver_that_takes_no_event_twice(receiver: StudiousReceiver) -> None:
    def handle(event: Event) -> int:
        if event["id"] in receiver.seen:
            return 409
        receiver.seen.add(event["id"])
        return 204

    receiver.handle = handle
    assert failed(receiver) == ["duplicate"]


def test_a_receiver_that_wants_events_in_order(receiver: StudiousReceiver) -> None:
    def handle(event: Event) -> int:
        sequence = event["data"].get("sequence", receiver.newest)
        is_old, receiver.newest = sequence < receiver.newest, sequence
        return 500 if is_old else 204

    receiver.handle = handle
    assert "order" in failed(receiver)


def is_of_last_week(event: Event) -> bool:
    return datetime.fromisoformat(event["createdAt"]) < datetime.now(UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    ("name", "handle"),
    [
        ("late", lambda event: 400 if is_of_last_week(event) else 204),
        ("type", lambda event: 204 if event["type"].startswith(("session.l", "session.c")) else 422),
        ("field", lambda event: 422 if "newField" in event["data"] else 204),
        ("test", lambda event: 400 if event.get("test") else 204),
    ],
)
def test_a_receiver_that_refuses_what_it_does_not_expect(
    receiver: StudiousReceiver, name: str, handle: Callable[[Event], int]
) -> None:
    receiver.handle = handle
    assert failed(receiver) == [name]


def test_a_receiver_with_a_small_limit(receiver: StudiousReceiver) -> None:
    receiver.read_limit = 32 * 1024
    assert failed(receiver) == ["size"]


def test_a_receiver_that_knows_no_rotation(receiver: StudiousReceiver) -> None:
    def verify(body: bytes, headers: dict[str, str]) -> Event:
        first = headers.get("webhook-signature", "").split(" ")[0]
        event: Event = Webhook(SECRET).verify(body, {**headers, "webhook-signature": first})
        return event

    receiver.verify = verify
    assert failed(receiver) == ["rotation"]


def test_a_receiver_that_works_before_it_responds(receiver: StudiousReceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scorm_webhooks_cli.exam.RESPONSE_SECONDS", 0.2)

    def handle(event: Event) -> int:
        time.sleep(0.5 if event["id"].endswith("_plain") else 0)
        return 204

    receiver.handle = handle
    assert failed(receiver) == ["accept"]


def test_nothing_that_answers_is_another_exit_code() -> None:
    [port] = free_ports(1)
    done = exam(f"http://127.0.0.1:{port}/hook")
    assert done.exit_code == 3
    assert "does not answer: nothing accepts connections there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ftp://x", "--secret", SECRET], "URL: must start with https:// or http://"),
        (["http://127.0.0.1:9/", "--secret", "whsec_?"], "--secret: must be the webhook's signing secret"),
        (["http://127.0.0.1:9/", "--secret", "4f2a"], "--secret: must be the webhook's signing secret"),
    ],
)
def test_wrong_use_names_the_argument(arguments: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["exam", *arguments])
    assert str(done.exception).startswith(message)
