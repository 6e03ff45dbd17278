"""A platform that writes with Confluent's serializer, and stages that read and write in its framing."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.schema_registry import record_subject_name_strategy, topic_subject_name_strategy

import schemas
from conftest import Broker, random_prefix
from e2e.conftest import prepared
from e2e.learning_platform import Platform, launched_fields
from e2e.receiver import Receiver
from e2e.system import System, until
from real.postgres import Postgres
from real.process import free_ports
from real.registry import SchemaRegistry

pytestmark = pytest.mark.e2e

EVENT = {
    "type": "session.launched",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": {"sessionId": "sess_1", "packageId": "pkg_1", "learnerId": "learner-42"},
}
LOGIN = "SCHEMA_REGISTRY_CONFIG_BASIC_AUTH_USER_INFO"


@pytest.fixture(scope="module")
def running(
    schema_registry: SchemaRegistry, kafka: Broker, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[System]:
    """`fan-out` may only read the registry. `api` and commands may register their schema."""
    [port] = free_ports(1)
    settings = {
        "SCHEMA_REGISTRY_URL": schema_registry.url,
        LOGIN: "writer:secret",
        "SCORM_WEBHOOKS_EVENT_FRAMING": "confluent",
        "SCORM_WEBHOOKS_API_PORT": str(port),
    }
    for system in prepared(kafka, postgres, random_prefix(), tmp_path_factory.mktemp("registry"), **settings):
        system.start(("publish", "deliver", "api"))
        system.start(("fan-out",), **{LOGIN: "reader:secret"})
        yield system


@pytest.fixture
def system(running: System) -> System:
    return running


@pytest.fixture
def topic(system: System) -> str:
    return f"{system.env['SCORM_WEBHOOKS_TOPIC_PREFIX']}session-events"


@pytest.fixture
def account(system: System, receiver: Receiver) -> str:
    """An account with a webhook."""
    account = system.account()
    system.webhook(account, receiver.url("/crm"))
    return account


def post(system: System, account: str, event_id: str) -> int:
    """The status of `POST /v1/events`."""
    key = system.run("api-keys", "create", account, "--name", event_id, "--json")["apiKey"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{system.env['SCORM_WEBHOOKS_API_PORT']}/v1/events"
    request = urllib.request.Request(url, json.dumps({**EVENT, "id": event_id}).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def logged(system: System, event: str, stage: str = "fan-out") -> list[dict[str, Any]]:
    return [line for line in system.log_events(stage) if line["event"] == event]


@pytest.mark.parametrize("strategy", [topic_subject_name_strategy, record_subject_name_strategy])
def test_events_of_confluents_serializer_arrive(
    schema_registry: SchemaRegistry, platform: Platform, topic: str, account: str, receiver: Receiver, strategy: Any
) -> None:
    fields = launched_fields("evt_1", account)
    value = schema_registry.serialized(
        schemas.current("session_event"), topic, fields, **{"subject.name.strategy": strategy}
    )
    platform.publish("evt_1", value)
    platform.flush()
    receiver.wait_for("/crm", {"evt_1"})


def test_the_command_and_the_api_write_the_framing(
    system: System, schema_registry: SchemaRegistry, topic: str, account: str, receiver: Receiver
) -> None:
    system.run("events", "publish", "-", stdin=json.dumps({**EVENT, "id": "evt_1", "accountId": account}))
    # A producer of the platform may have registered the newest schema before.
    versions = schema_registry.client().get_versions(f"{topic}-value")
    assert post(system, account, "evt_2") == 202
    receiver.wait_for("/crm", {"evt_1", "evt_2"})
    assert schema_registry.client().get_versions(f"{topic}-value") == versions


def test_an_unknown_schema_id_is_stored_as_invalid(system: System, platform: Platform) -> None:
    value = b"\0" + (987654).to_bytes(4, "big") + b"junk"
    platform.publish("evt_1", value, key="unknown")
    platform.flush()

    def stored() -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = system.run("invalid", "list", "--topic", "session-events", "--json")
        return [row for row in rows if row["key"] == "unknown"]

    until(lambda: len(stored()) == 1, 30, "the record stored as invalid")
    [row] = stored()
    assert row["error"] == "the schema registry has no schema of id 987654"
    assert system.run("invalid", "show", row["id"], "--json")["valueStart"] == value.hex()


def test_fan_out_waits_while_the_registry_hangs(
    system: System, schema_registry: SchemaRegistry, platform: Platform, topic: str, account: str, receiver: Receiver
) -> None:
    ids = ("evt_1", "evt_2")
    schema = schemas.current("session_event")
    schema["fields"].append({"name": "shard", "type": "int", "default": 0})
    fields = [launched_fields(one, account) | {"shard": 7} for one in ids]
    values = [schema_registry.serialized(schema, topic, one) for one in fields]
    with schema_registry.frozen():
        for event_id, value in zip(ids, values, strict=True):
            platform.publish(event_id, value)
        platform.flush()
        until(lambda: logged(system, "schema_registry_unreachable"), 30, "the outage in the log")
        until(lambda: system.is_ready("fan-out"), 10, "fan-out answers probes meanwhile")
        assert not receiver.requests
    receiver.wait_for("/crm", set(ids))
    until(lambda: logged(system, "schema_registry_reachable"), 10, "the end of the outage in the log")
    assert len(logged(system, "schema_registry_unreachable")) == 1


def test_the_api_says_why_it_cannot_write_the_framing(
    system: System, schema_registry: SchemaRegistry, account: str
) -> None:
    system.stop("api")
    system.start(("api",), **{LOGIN: "reader:secret", "SCORM_WEBHOOKS_EVENT_SUBJECT": "not-registered"})
    with schema_registry.frozen():
        assert post(system, account, "evt_1") == 503
    assert post(system, account, "evt_2") == 500
    [line] = logged(system, "request_misconfigured", "api")
    assert "the registry rejects our schema for subject not-registered with 403" in line["why"]
