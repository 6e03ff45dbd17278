"""Events in Confluent's framing, with a registry that works, rejects, or is away."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

import schemas
from builders import delivery, event
from fakes import FakeTelemetry, no_wait
from real.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from schemas import Schema
from streams.adapters.avro.codec import AvroCodec
from streams.adapters.avro.confluent import ConfluentCodec, ConfluentRegistry, registry_properties
from streams.core.deliveries.delivery import SubscriptionsPosition
from streams.core.errors import InvalidRecord, Misconfigured, Unavailable
from streams.core.webhooks.webhook import Webhook
from streams.outage import Outages
from streams.ports.kafka import Outgoing, Partition, Record
from streams.producer import EventProducer, confluent_codec
from streams.runtime.bootstrap import SqlDeployment
from streams.stages.fan_out import FanOut
from streams.topics import INVALID

NOON = event().occurred_at


@pytest.fixture
def registry() -> ConfluentRegistry:
    return ConfluentRegistry("mock://", {})


def codec(registry: ConfluentRegistry, subject: str | None = "session-events-value") -> ConfluentCodec:
    return ConfluentCodec(AvroCodec(), registry, subject)


def test_an_event_carries_the_id_of_its_schema(registry: ConfluentRegistry) -> None:
    value = codec(registry).encode(event())
    assert value[:1] == b"\0"
    assert registry.schema(int.from_bytes(value[1:5], "big")) == schemas.current("session_event")
    assert codec(registry, None).decode(value) == event()


def test_without_a_subject_all_is_in_single_object_encoding(registry: ConfluentRegistry) -> None:
    assert codec(registry, None).encode(event()) == AvroCodec().encode(event())
    assert codec(registry).encode(delivery()) == AvroCodec().encode(delivery())
    assert codec(registry).decode(AvroCodec().encode(event())) == event()


def test_another_field_order_of_a_producer_is_resolved(registry: ConfluentRegistry) -> None:
    theirs: Schema = json.loads(json.dumps(schemas.current("session_event")))
    theirs["fields"].append({"name": "shard", "type": "int", "default": 0})
    schema_id = registry.register("session-events-value", theirs)
    # The field comes last on the wire: one zigzag byte.
    body = AvroCodec().encode(event())[10:] + b"\x0e"
    assert codec(registry).decode(b"\0" + schema_id.to_bytes(4, "big") + body) == event()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"\0\0\0", "within Confluent's framing"),
        (b"\0\x00\x00\x30\x39junk", "no schema of id 12345"),
        (b"\0\x00\x00\x00\x01\xff", "session_event"),
    ],
)
def test_undecodable_bytes_name_the_reason(registry: ConfluentRegistry, value: bytes, message: str) -> None:
    codec(registry).encode(event())
    with pytest.raises(InvalidRecord, match=message):
        codec(registry).decode(value)


# -- a registry over HTTP --------------------------------------------------------------------------------------


def over_http(server: HTTPServer, **properties: Any) -> ConfluentRegistry:
    return ConfluentRegistry(server.url_for("").rstrip("/"), {"max.retries": 0, **properties})


def test_a_registry_is_asked_once_for_a_schema(httpserver: HTTPServer) -> None:
    response = {"schema": json.dumps(schemas.current("session_event")), "schemaType": "AVRO"}
    httpserver.expect_ordered_request("/schemas/ids/7").respond_with_json(response)
    reading = codec(over_http(httpserver), None)
    value = b"\0\0\0\0\x07" + AvroCodec().encode(event())[10:]
    assert [reading.decode(value), reading.decode(value)] == [event(), event()]


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(404, 40403, InvalidRecord), (401, 401, Misconfigured), (500, 50001, Unavailable), (429, 429, Unavailable)],
)
def test_a_refusal_differs_from_an_outage(
    httpserver: HTTPServer, status: int, code: int, error: type[Exception]
) -> None:
    httpserver.expect_request("/schemas/ids/7").respond_with_json({"error_code": code, "message": "no"}, status=status)
    with pytest.raises(error):
        over_http(httpserver).schema(7)


def test_a_404_of_anything_before_the_registry_is_an_outage(httpserver: HTTPServer) -> None:
    # A proxy without a backend, or a wrong path: it says nothing about the schema.
    httpserver.expect_request("/schemas/ids/7").respond_with_data("<h1>404 Not Found</h1>", 404)
    httpserver.expect_request("/schemas/ids/8").respond_with_json({"error_code": 404, "message": "Not Found"}, 404)
    for schema_id in (7, 8):
        with pytest.raises(Unavailable):
            over_http(httpserver).schema(schema_id)


def test_a_registry_that_is_not_there_is_an_outage(unused_tcp_port: int) -> None:
    registry = ConfluentRegistry(f"http://127.0.0.1:{unused_tcp_port}", {"max.retries": 0})
    with pytest.raises(Unavailable, match="does not answer"):
        registry.schema(7)


def test_a_password_from_the_environment_reaches_the_registry(httpserver: HTTPServer) -> None:
    environ = {"SCHEMA_REGISTRY_CONFIG_BASIC_AUTH_USER_INFO": "me:secret", "PATH": "/bin"}
    assert registry_properties(environ) == {"basic.auth.user.info": "me:secret"}
    expected = httpserver.expect_request("/schemas/ids/7", headers={"Authorization": "Basic bWU6c2VjcmV0"})
    expected.respond_with_json({"schema": '"string"', "schemaType": "AVRO"})
    found: object = over_http(httpserver, **registry_properties(environ)).schema(7)
    assert found == "string"


def test_numbers_from_the_environment_reach_the_client(httpserver: HTTPServer) -> None:
    environ = {"SCHEMA_REGISTRY_CONFIG_MAX_RETRIES": "1", "SCHEMA_REGISTRY_CONFIG_TIMEOUT": "2.5"}
    properties = {**registry_properties(environ), "retries.wait.ms": 1}
    assert properties["timeout"] == 2.5
    httpserver.expect_ordered_request("/schemas/ids/7").respond_with_json({}, status=503)
    httpserver.expect_ordered_request("/schemas/ids/7").respond_with_json({"schema": '"string"', "schemaType": "AVRO"})
    found: object = over_http(httpserver, **properties).schema(7)
    assert found == "string"
    with pytest.raises(Misconfigured, match="SCHEMA_REGISTRY_CONFIG_TIMEOUT: must be a number"):
        registry_properties({"SCHEMA_REGISTRY_CONFIG_TIMEOUT": "soon"})


def test_the_subject_is_the_topic_unless_it_is_chosen(httpserver: HTTPServer) -> None:
    environ = {
        "SCHEMA_REGISTRY_URL": httpserver.url_for("").rstrip("/"),
        "SCORM_WEBHOOKS_EVENT_FRAMING": "confluent",
        "SCORM_WEBHOOKS_TOPIC_PREFIX": "eu.",
    }
    for subject, chosen in {
        "eu.session-events-value": {},
        "Chosen": {"SCORM_WEBHOOKS_EVENT_SUBJECT": "Chosen"},
    }.items():
        found = {"subject": subject, "id": 7, "version": 1, "schema": '"string"'}
        httpserver.expect_oneshot_request(f"/subjects/{subject}").respond_with_json(found)
        value = SqlDeployment.from_environment({**environ, **chosen}).event_codec.encode(event())
        assert value[:5] == b"\0\0\0\0\x07"


# -- where it is used ------------------------------------------------------------------------------------------


def bearer(endpoint: TokenEndpoint) -> dict[str, str]:
    given = {"CREDENTIALS_SOURCE": "OAUTHBEARER", "ISSUER_ENDPOINT_URL": endpoint.url, "SCOPE": "registry"}
    client = {
        "CLIENT_ID": CLIENT_ID,
        "CLIENT_SECRET": CLIENT_SECRET,
        "LOGICAL_CLUSTER": "lsrc-1",
        "IDENTITY_POOL_ID": "p",
    }
    return registry_properties(
        {f"SCHEMA_REGISTRY_CONFIG_BEARER_AUTH_{name}": at for name, at in {**given, **client}.items()}
    )


def test_a_registry_takes_tokens(httpserver: HTTPServer) -> None:
    endpoint = TokenEndpoint()
    endpoint.start()
    httpserver.expect_request("/schemas/ids/1").respond_with_json({"schema": '"string"'})
    registry = ConfluentRegistry(httpserver.url_for(""), bearer(endpoint))
    assert json.dumps(registry.schema(1)) == '"string"'
    [(request, _)] = httpserver.log
    assert request.headers["Authorization"] == f"Bearer {endpoint.tokens[0]}"
    endpoint.instead = lambda: (500, b"")
    with pytest.raises(Unavailable, match="Failed to retrieve token") as raised:
        ConfluentRegistry(httpserver.url_for(""), bearer(endpoint)).schema(1)
    assert "\n" not in str(raised.value)
    endpoint.stop()


class NoWebhooks:
    """`Subscriptions` without webhooks."""

    async def catch_up(self, ago: float = 0.0) -> SubscriptionsPosition:
        return SubscriptionsPosition("one", 0)

    async def wait_for(self, seen: SubscriptionsPosition) -> None:
        """Everything is read."""

    def find(self, webhook_id: str) -> Webhook | None:
        return None

    def of_account(self, account_id: str) -> Sequence[Webhook]:
        return []

    def count_of_account(self, account_id: str) -> int:
        return 0


class FakeProducer:
    """A `RecordProducer` that records its records."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []

    async def produce(self, records: Sequence[Outgoing]) -> list[Any]:
        self.records += records
        return [NOON] * len(records)


class AwayTwice:
    """A `Registry` that is away twice, and then does not know the id."""

    def __init__(self) -> None:
        self.asked = 0

    def schema(self, schema_id: int) -> Schema:
        self.asked += 1
        if self.asked < 3:
            raise Unavailable("the schema registry does not answer")
        raise InvalidRecord("the schema registry has no schema of id 7")

    def register(self, subject: str, schema: Schema) -> int:
        raise Unavailable("the schema registry does not answer")


async def test_fan_out_waits_for_a_registry_that_is_away() -> None:
    registry, log, telemetry = AwayTwice(), FakeProducer(), FakeTelemetry()
    outages = Outages(telemetry, sleep=no_wait)
    fan_out = FanOut(ConfluentCodec(AvroCodec(), registry), NoWebhooks(), log, telemetry, outages)
    value = b"\0\0\0\0\x07junk"
    await fan_out.handle([Record(Partition("session-events", 0), 0, None, value, NOON)])
    assert registry.asked == 3
    assert [(one.topic, one.value) for one in log.records] == [(INVALID, value)]
    assert telemetry.logged_count("schema_registry_unreachable") == 1


def test_settings_choose_which_framing_is_read_and_written() -> None:
    environ = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "SCHEMA_REGISTRY_URL": "mock://"}
    reads = SqlDeployment.from_environment(environ).event_codec
    assert reads.encode(event())[:2] == b"\xc3\x01"
    writes = SqlDeployment.from_environment({**environ, "SCORM_WEBHOOKS_EVENT_FRAMING": "confluent"}).event_codec
    assert writes.encode(event())[:1] == b"\0"
    with pytest.raises(Misconfigured, match="SCHEMA_REGISTRY_URL is not set"):
        _ = SqlDeployment.from_environment({"SCORM_WEBHOOKS_EVENT_FRAMING": "confluent"}).event_codec
    with pytest.raises(Misconfigured, match="SCHEMA_REGISTRY_URL"):
        _ = SqlDeployment.from_environment({**environ, "SCHEMA_REGISTRY_CONFIG_NONSENSE": "1"}).event_codec


def test_a_producer_team_may_choose_the_framing() -> None:
    writing = confluent_codec("mock://", topic="session-events")
    with EventProducer("127.0.0.1:9", codec=writing, properties={"message.timeout.ms": 100}) as producer:
        future = producer.publish(event())
    assert future.done()
    assert writing.encode(event())[:1] == b"\0"
