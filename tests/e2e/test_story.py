"""The path of an event through real processes, Kafka and PostgreSQL."""

import json
import subprocess
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import standardwebhooks
import svix

import parts
from conftest import left_out
from e2e.learning_platform import Platform, completed, launched
from e2e.receiver import Received, Receiver, header
from e2e.system import System, until

pytestmark = pytest.mark.e2e


@pytest.fixture
def system(running: System) -> System:
    """Started once for this module."""
    return running


CUSTOMER_JS = """
const crypto = require('crypto');
const [secret, signature] = process.argv.slice(1);
const body = require('fs').readFileSync(0);
const expected = crypto.createHmac('sha256', secret).update(body).digest('hex');
process.exit(crypto.timingSafeEqual(Buffer.from(signature), Buffer.from(expected)) ? 0 : 1);
"""


def test_official_python_verifiers_accept_the_signature(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    secret = system.webhook(mine, receiver.url("/crm"), "--events", "session.completed")["secret"]

    platform.publish("evt_launch", launched("evt_launch", mine))
    platform.publish("evt_done", completed("evt_done", mine))
    platform.flush()

    until(lambda: receiver.at("/crm"), message="the completion at the customer")
    [request] = receiver.at("/crm")
    assert json.loads(request.body) == {
        "id": "evt_done",
        "type": "session.completed",
        "createdAt": "2026-04-10T14:32:00Z",
        "data": {
            "sessionId": "sess_1",
            "packageId": "pkg_1",
            "dispatchId": "dsp_1",
            "learnerId": "learner-42",
            "completionStatus": "completed",
            "successStatus": "passed",
            "scoreRaw": 92,
            "scoreMax": 100,
            "totalTime": "PT12M34S",
        },
    }
    text = {name.lower(): value for name, value in request.headers.items()}
    for verifier in (standardwebhooks.Webhook(secret), svix.Webhook(secret)):
        verifier.verify(request.body, text)
        with pytest.raises(Exception, match="signature"):
            verifier.verify(request.body.replace(b"92", b"93"), text)
    assert customer_accepts(secret, request)
    assert not customer_accepts(secret, replace(request, body=request.body.replace(b"92", b"93")))


VERIFIER_JS = """
const { Webhook } = require(process.argv[1]);
const [secret, headers] = process.argv.slice(2);
new Webhook(secret).verify(require('fs').readFileSync(0, 'utf8'), JSON.parse(headers));
"""


@pytest.mark.parametrize("package", ["standardwebhooks", "svix"])
def test_official_node_verifiers_accept_the_signature(
    system: System, platform: Platform, receiver: Receiver, package: str
) -> None:
    if not parts.verifiers():
        left_out("verifiers for Node")
    mine = system.account()
    secret = system.webhook(mine, receiver.url("/node"))["secret"]
    platform.publish("evt_node", completed("evt_node", mine, learnerId="Größe"))
    platform.flush()
    until(lambda: receiver.at("/node"), message="the event at the customer")
    [request] = receiver.at("/node")
    headers = json.dumps({name.lower(): value for name, value in request.headers.items()})

    def accepts(body: bytes) -> bool:
        module = str(parts.VERIFIERS / "node_modules" / package)
        command = ["node", "-e", VERIFIER_JS, module, secret, headers]
        return subprocess.run(command, input=body, capture_output=True, timeout=30).returncode == 0

    assert accepts(request.body)
    assert not accepts(request.body.replace(b"92", b"93"))


def customer_accepts(secret: str, request: Received) -> bool:
    """Whether the customer's Node check accepts the request."""
    signature = header(request, "X-AllureConnect-Signature")
    done = subprocess.run(["node", "-e", CUSTOMER_JS, secret, signature], input=request.body, timeout=30)
    return done.returncode == 0


def test_a_failing_endpoint_ends_as_a_dead_letter(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/broken"] = lambda request: 500
    broken = system.webhook(mine, receiver.url("/broken"))["id"]
    healthy = system.webhook(mine, receiver.url("/healthy"))["id"]

    platform.publish("evt_1", launched("evt_1", mine))
    platform.flush()

    until(lambda: system.states(broken) == {"dead": 1}, message="a dead letter")
    tries = receiver.at("/broken")
    waits = [later.at - earlier.at for earlier, later in pairwise(tries)]
    assert len(tries) == 4
    assert all(wait >= tier for wait, tier in zip(waits, (1, 2, 3), strict=True)), waits
    assert all(wait <= tier + 1 for wait, tier in zip(waits, (1, 2, 3), strict=True)), waits
    assert {request.body for request in tries} == {tries[0].body}
    assert [header(request, "webhook-attempt") for request in tries] == ["1", "2", "3", "4"]

    [dead] = system.deliveries(broken)

    def show() -> Any:
        return system.run("deliveries", "show", dead["id"], "--json")

    # The dead letter and its last attempt come by two topics.
    until(lambda: len(show()["attempts"]) == 4, message="the last attempt is recorded", every=0.3)
    seen = show()
    assert (seen["reason"], seen["payload"]["id"]) == ("exhausted", "evt_1")
    assert [(a["number"], a["status"], a["nextStep"]) for a in seen["attempts"]] == [
        (1, 500, "tier"),
        (2, 500, "tier"),
        (3, 500, "tier"),
        (4, 500, "dead"),
    ]
    assert system.states(healthy) == {"delivered": 1}
    assert receiver.ids("/healthy") == ["evt_1"]


def test_five_failures_pause_a_webhook_once(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    receiver.responses["/down"] = lambda request: 503
    down = system.webhook(mine, receiver.url("/down"))["id"]

    for number in range(1, 4):
        platform.publish(f"evt_{number}", launched(f"evt_{number}", mine))
        platform.flush()
        until(partial(receiver.has_some, "/down", f"evt_{number}"), message="an attempt")

    until(lambda: system.states(down) == {"held": 3}, message="everything held")
    [found] = system.run("webhooks", "list", "--account", mine, "--json")
    assert found["status"] == "paused"
    platform.publish("evt_late", launched("evt_late", mine))
    platform.flush()
    until(lambda: system.states(down) == {"held": 4}, message="what came later held too")
    assert "evt_late" not in receiver.ids("/down")
    pauses = [line for line in system.log_events("record") if line["event"] == "webhook_paused"]
    assert [pause["webhook_id"] for pause in pauses].count(down) == 1


def test_an_invalid_record_is_stored_byte_for_byte(system: System, platform: Platform, receiver: Receiver) -> None:
    mine = system.account()
    system.webhook(mine, receiver.url("/crm"))

    platform.publish("invalid", b"\x00\x00\x00\x00\x07not ours")
    platform.publish("evt_1", launched("evt_1", mine))
    platform.flush()

    until(lambda: receiver.ids("/crm") == ["evt_1"], message="the event after the invalid record")

    def stored() -> list[str]:
        return [line["why"] for line in system.log_events("fan-out") if line["event"] == "invalid_record_stored"]

    until(lambda: bool(stored()), message="the invalid record is stored after the others of its batch")
    [why] = stored()
    assert "Confluent" in why


def test_the_fallback_is_tried_before_a_dead_letter(system: System, platform: Platform, receiver: Receiver) -> None:
    receiver.responses["/broken"] = lambda request: 500
    mine = system.account()
    webhook = system.webhook(mine, receiver.url("/broken"), "--fallback-url", receiver.url("/spare"))["id"]
    platform.publish("evt_0", launched("evt_0", mine))
    platform.flush()
    receiver.wait_for("/spare", {"evt_0"}, 30)
    until(lambda: system.states(webhook) == {"delivered": 1}, 30, "delivered, as such")
    [delivery] = system.run("deliveries", "list", "--webhook", webhook, "--json")
    seen = system.run("deliveries", "show", delivery["id"], "--json")
    assert [a["target"] for a in seen["attempts"]] == ["primary"] * 4 + ["fallback"]


def test_a_deleted_webhook_gets_nothing_more(system: System, platform: Platform, receiver: Receiver) -> None:
    receiver.responses["/broken"] = lambda request: 500
    mine = system.account()
    webhook = system.webhook(mine, receiver.url("/broken"))["id"]
    platform.publish("evt_0", launched("evt_0", mine))
    platform.flush()
    receiver.wait_for("/broken", {"evt_0"}, 30)
    system.run("webhooks", "delete", webhook, "--yes", "--json")
    until(lambda: system.states(webhook) == {"dead": 1}, 30, "a dead letter")
    [delivery] = system.run("deliveries", "list", "--webhook", webhook, "--json")
    assert delivery["reason"] == "deleted"


def test_bad_input_names_the_line_and_the_field(system: System) -> None:
    bad = {"type": "session.scored", "accountId": "acc_1", "createdAt": "yesterday", "data": {"sessionId": "a b"}}
    done = system.attempt("events", "publish", "-", stdin=json.dumps(bad))
    assert done.returncode == 2
    assert "line 1: createdAt: must be a time with a zone" in done.stderr
    assert "line 1: data.sessionId: must be an id" in done.stderr
    refused = system.attempt("webhooks", "create", "--account", system.account(), "--url", "ftp://x", "--json")
    assert (refused.returncode, refused.stderr.strip()) == (2, "error: url: must start with https:// or http://")
