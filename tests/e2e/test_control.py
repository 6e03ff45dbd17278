"""An integrator registers, gets a pause mail, fixes, rotates and replays, through the API of a real system."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from adapters.test_smtp import Mailbox
from aiosmtpd.controller import Controller

from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, completed, launched
from e2e.receiver import Receiver, header
from e2e.system import STAGES, System, until
from real.postgres import Postgres
from real.process import free_ports

pytestmark = pytest.mark.e2e

OPERATOR_KEY = "operator-key-canary-of-the-tests"
PUBLIC_URL = "https://hooks.example.com"


@pytest.fixture(scope="module")
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture(scope="module")
def system(
    kafka: Broker, postgres: Postgres, mailbox: Mailbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """Every stage, the API and the mail server."""
    smtp_port, api_port = free_ports(2)
    controller = Controller(mailbox, hostname="127.0.0.1", port=smtp_port)
    controller.start()
    settings = {
        "SMTP_URL": f"smtp://127.0.0.1:{smtp_port}?tls=none",
        "SCORM_WEBHOOKS_API_PORT": str(api_port),
        "SCORM_WEBHOOKS_OPERATOR_KEYS": OPERATOR_KEY,
        "SCORM_WEBHOOKS_PUBLIC_URL": PUBLIC_URL,
        # Debug level, so that the test of secrets checks every log line.
        "SCORM_WEBHOOKS_LOG_LEVEL": "debug",
    }
    folder = tmp_path_factory.mktemp("control")
    for system in prepared(kafka, postgres, random_prefix(), folder, **settings):
        system.start((*STAGES, "maintain", "notify", "api"))
        yield system
    controller.stop()


@pytest.fixture
def platform(system: System) -> Platform:
    prefix = system.env["SCORM_WEBHOOKS_TOPIC_PREFIX"]
    return Platform(system.env["KAFKA_BOOTSTRAP_SERVERS"], f"{prefix}session-events")


class Api:
    """An HTTP client with an API key."""

    def __init__(self, system: System, key: str) -> None:
        self._base = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_API_PORT']}"
        self._key = key

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The JSON of the response, also of a problem."""
        request = urllib.request.Request(
            self._base + path,
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json", **headers},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                text = response.read()
        except urllib.error.HTTPError as error:
            text = error.read()
        return json.loads(text) if text else None


@pytest.fixture
def account(system: System) -> dict[str, Any]:
    """A new account."""
    opened: dict[str, Any] = Api(system, OPERATOR_KEY)(
        "POST", "/v1/accounts", {"name": "Acme", "emails": ["a@b.example"]}
    )
    return opened


@pytest.fixture
def api(system: System, account: dict[str, Any]) -> Api:
    return Api(system, account["apiKey"])


def mails_about(mailbox: Mailbox, webhook_id: str) -> list[EmailMessage]:
    return [message for message in mailbox.messages if webhook_id in text_of(message)]


def text_of(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    return str(part.get_content()) if part else ""


def test_the_logs_tell_the_story_of_one_event(system: System, api: Api, receiver: Receiver) -> None:
    api("POST", "/v1/webhooks", {"url": receiver.url("/story")})
    receiver.responses["/story"] = lambda request: 500 if request.number == 1 else 200
    data = {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"}
    sent = {"id": "evt_story", "type": "session.launched", "createdAt": "2026-04-10T14:32:00Z", "data": data}
    assert "events" in api("POST", "/v1/events", sent)

    def story() -> list[tuple[str, str, str | None]]:
        lines = [line for stage in (*STAGES, "api") for line in system.log_events(stage)]
        ours = sorted(
            (line for line in lines if line.get("event_id") == "evt_story"), key=lambda line: line["timestamp"]
        )
        return [(line["stage"], line["event"], line.get("outcome") or line.get("state")) for line in ours]

    until(lambda: ("record", "delivery_recorded", "delivered") in story(), 30, lambda: f"the end of {story()}")
    # A stage may handle an event before the API hears from the broker that it has it.
    until(lambda: ("api", "event_accepted", None) in story(), 30, lambda: f"the event in {story()}")
    assert [line for line in story() if line[0] not in {"api", "record"}] == [
        ("fan-out", "delivery_created", None),
        ("deliver", "delivery_attempt_failed", "server_error"),
        ("deliver", "delivery_attempt_succeeded", "delivered"),
    ]
    assert [line for line in story() if line[0] == "api"] == [("api", "event_accepted", None)]
    recorded = [str(state) for stage, _, state in story() if stage == "record"]
    assert recorded == sorted(recorded, key=["waiting", "delivered"].index)


def test_registration_to_first_event_by_http_only(api: Api, receiver: Receiver) -> None:
    made = api("POST", "/v1/webhooks", {"url": receiver.url("/crm"), "events": ["session.completed"]})
    assert made["propagated"] is True
    seen = api("POST", f"/v1/webhooks/{made['id']}/test", {"type": "session.completed"})
    assert (seen["state"], seen["attempts"][0]["status"]) == ("delivered", 200)
    data = seen["payload"]["data"]
    event = {"id": "evt_1", "type": "session.completed", "createdAt": "2026-04-10T14:32:00Z", "data": data}
    assert api("POST", "/v1/events?count=true", event) == {"ids": ["evt_1"], "events": [{"id": "evt_1", "webhooks": 1}]}
    until(lambda: "evt_1" in receiver.ids("/crm"), 20, "the event at the customer")
    until(lambda: api("GET", "/v1/deliveries?eventId=evt_1&state=delivered")["data"], 20, "its delivery")
    [delivery] = api("GET", "/v1/deliveries?eventId=evt_1")["data"]
    path = f"/v1/deliveries/{delivery['id']}"
    until(lambda: "payload" in api("GET", path), 20, "its payload")
    shown = api("GET", path)
    standardwebhooks.Webhook(made["secret"]).verify(
        json.dumps(shown["payload"], separators=(",", ":")).encode(),
        {name.lower(): value for name, value in shown["attempts"][0]["requestHeaders"].items()},
    )
    stats = api("GET", f"/v1/webhooks/{made['id']}/stats")
    assert sum(hour["attempts"] for hour in stats["hours"]) == 1


def test_a_pause_sends_one_mail_and_releases_after_enabling(
    system: System, api: Api, account: dict[str, Any], platform: Platform, receiver: Receiver, mailbox: Mailbox
) -> None:
    receiver.responses["/down"] = lambda request: 500
    made = api("POST", "/v1/webhooks", {"url": receiver.url("/down"), "description": "The CRM"})
    for number in range(3):
        platform.publish(f"evt_{number}", launched(f"evt_{number}", account["id"]))
        platform.flush()
        until(partial(receiver.has_some, "/down", f"evt_{number}"), 20, "an attempt")
    health = f"/v1/webhooks/{made['id']}/health"
    until(lambda: api("GET", health)["status"] == "paused", 30, "the pause")
    system.let_a_minute_pass()
    until(lambda: mails_about(mailbox, made["id"]), 20, "the mail")
    [mail] = mails_about(mailbox, made["id"])
    assert (mail["subject"], mail["to"]) == ("Webhook paused: The CRM", "a@b.example")
    notifications = partial(api, "GET", "/v1/notifications")
    until(lambda: "sentAt" in notifications()["data"][0], 20, "the mail is marked as sent")
    assert [mail["subject"] for mail in notifications()["data"]] == ["Webhook paused: The CRM"]
    until(lambda: system.states(made["id"]) == {"held": 3}, 30, "everything held")

    del receiver.responses["/down"]
    enabling = f"{PUBLIC_URL}/v1/webhooks/{made['id']}/enable"
    assert {f"{PUBLIC_URL}/webhooks/{made['id']}", enabling} <= set(text_of(mail).split())
    assert api("POST", f"/v1/webhooks/{made['id']}/test")["state"] == "delivered"
    assert api("POST", enabling.removeprefix(PUBLIC_URL), {"held": "deliver"})["status"] == "active"
    until(lambda: system.states(made["id"]) == {"delivered": 4}, 30, "what was held, and the test")
    assert api("POST", "/v1/dead-letters/retry", {"filter": {"webhookId": made["id"]}})["total"] == 0
    assert api("GET", health)["consecutiveFailures"] == 0
    assert len(mails_about(mailbox, made["id"])) == 1


def test_rotation_and_a_job_on_dead_letters(
    system: System, api: Api, account: dict[str, Any], platform: Platform, receiver: Receiver
) -> None:
    responses = {"status": 410}
    receiver.responses["/moved"] = lambda request: responses["status"]
    made = api("POST", "/v1/webhooks", {"url": receiver.url("/moved")})
    platform.publish("evt_1", completed("evt_1", account["id"]))
    platform.flush()
    path = f"/v1/webhooks/{made['id']}"
    until(lambda: api("GET", path)["status"] == "paused", 30, "410 pauses at once")
    assert api("POST", f"{path}/enable", {"held": "keep"})["status"] == "active"
    until(lambda: system.states(made["id"]) == {"dead": 1}, 30, "a dead letter")
    rotated = api("POST", f"{path}/secret/rotate")
    responses["status"] = 200
    job = api("POST", "/v1/dead-letters/retry", {"filter": {"webhookId": made["id"]}})
    until(lambda: "finishedAt" in api("GET", f"/v1/jobs/{job['id']}"), 30, "the job")
    until(lambda: system.states(made["id"]) == {"delivered": 1}, 30, "its delivery")
    request = receiver.at("/moved")[-1]
    headers = {name.lower(): value for name, value in request.headers.items()}
    for secret in (made["secret"], rotated["secret"]):
        standardwebhooks.Webhook(secret).verify(request.body, headers)
    assert header(request, "X-AllureConnect-Signature") != header(request, "X-AllureConnect-Signature-Next")


def test_no_secret_key_or_payload_is_in_any_log_line_or_metric(
    system: System, api: Api, account: dict[str, Any], platform: Platform, receiver: Receiver
) -> None:
    headers = {"X-Gateway-Key": "canary-of-the-gateway"}
    made = api("POST", "/v1/webhooks", {"url": receiver.url("/crm?token=ok"), "headers": headers})
    event = completed("evt_canary", account["id"], learnerId="canary-of-a-learner")
    platform.publish("evt_canary", event)
    platform.flush()
    until(lambda: "evt_canary" in receiver.ids("/crm?token=ok"), 20, "the event")
    until(lambda: system.states(made["id"]) == {"delivered": 1}, 20, "recorded")
    api("POST", "/v1/webhooks", {"url": "http://user:canary-of-a-password@x.example.com"})
    api("POST", "/v1/events", {"type": "session.completed", "data": {"learnerId": "canary-of-a-bad-event"}})
    everything = "".join(system.log(stage) for stage in (*STAGES, "maintain", "notify", "api"))
    everything += "".join(system.metrics(stage) for stage in (*STAGES, "maintain", "notify", "api"))
    assert "evt_canary" in everything
    secrets = [made["secret"], account["apiKey"], OPERATOR_KEY, system.env["SCORM_WEBHOOKS_ENCRYPTION_KEYS"]]
    for canary in (*secrets, "canary-of-", "learner-42"):
        assert canary not in everything


def test_the_running_api_serves_its_documentation(system: System, tmp_path: Path) -> None:
    port = system.env["SCORM_WEBHOOKS_API_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs/api/", timeout=20) as page:
        assert b"swagger-ui" in page.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/docs/", timeout=20) as page:
        assert b"scorm-webhooks" in page.read()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=20) as response:
        assert response.read().startswith(b"ready\n")
    assert "scorm_webhooks_api_requests_total" in system.metrics("api")
