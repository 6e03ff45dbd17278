"""Every Kafka client signs in with tokens, and goes on when they end. Outages of the token endpoint say why."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest

import parts
from builders import webhook
from contract.test_security import SECONDS, TOPICS, RecordCollector, in_background, log_of
from fakes import FakeTelemetry, until
from real.oauth_kafka import OAuthKafka
from real.token_endpoint import CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from streams.core.offset_tracker import Commit
from streams.core.subscriptions_table import SENTINEL_KEY, Sentinel
from streams.ports import Outgoing, Record
from streams.runtime.bootstrap import SqlDeployment
from streams.topics import ATTEMPTS, SESSION_EVENTS, SUBSCRIPTIONS

Environ = Mapping[str, str]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(scope="module")
def oauth_kafka(endpoint: TokenEndpoint) -> Iterator[OAuthKafka]:
    if not (parts.java() and parts.kafka()):
        pytest.skip("Kafka is missing")
    server = OAuthKafka(endpoint)
    yield server
    server.remove()


@pytest.fixture
def environ(oauth_kafka: OAuthKafka, endpoint: TokenEndpoint, topic_prefix: str) -> Environ:
    """The environment of a client with valid credentials, where every topic exists."""
    found = {
        "KAFKA_BOOTSTRAP_SERVERS": oauth_kafka.token_listener,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_CONFIG_SASL_MECHANISM": "OAUTHBEARER",
        "KAFKA_CONFIG_SASL_OAUTHBEARER_METHOD": "oidc",
        "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_ID": CLIENT_ID,
        "KAFKA_CONFIG_SASL_OAUTHBEARER_CLIENT_SECRET": CLIENT_SECRET,
        "KAFKA_CONFIG_SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL": endpoint.url,
        "SCORM_WEBHOOKS_TOPIC_PREFIX": topic_prefix,
    }
    admin = SqlDeployment.from_environment(found).topics_admin()
    admin.apply(admin.plan(TOPICS))
    return found


async def test_every_client_of_a_process_shares_one_token(environ: Environ, endpoint: TokenEndpoint) -> None:
    asked = len(endpoint.forms)
    deployment, handler, telemetry = SqlDeployment.from_environment(environ), RecordCollector(), FakeTelemetry()
    assert deployment.topics_admin().existing() == {topic.name: topic.partitions for topic in TOPICS}
    consumer, subscriptions = (
        deployment.consumer("record", [ATTEMPTS], telemetry),
        deployment.subscriptions_reader(telemetry),
    )
    faust = deployment.faust_stage(telemetry)
    read: list[Record] = []

    async def handle(records: Sequence[Record]) -> None:
        read.extend(records)

    async with (
        log_of(deployment) as producer,
        in_background(consumer.run(handler)),
        in_background(subscriptions.run()),
        in_background(faust.run(handle)),
    ):
        known = Outgoing(SUBSCRIPTIONS, b"wh_1", deployment.codec.encode(webhook(id="wh_1")))
        all_of_them = Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 1).encode())
        attempt, event = Outgoing(ATTEMPTS, b"key", b"value"), Outgoing(SESSION_EVENTS, b"key", b"event")
        await asyncio.wait_for(producer.produce([known, all_of_them, attempt, event]), SECONDS)
        await asyncio.wait_for(subscriptions.wait_until_ready(), SECONDS)
        await asyncio.wait_for(subscriptions.catch_up(), SECONDS)
        await until(lambda: bool(handler.records) and bool(read), SECONDS)
        await asyncio.wait_for(consumer.commit({handler.records[0].partition: Commit(1, "")}), SECONDS)
    assert len(endpoint.forms) == asked + 1
    assert endpoint.forms[-1] == {"grant_type": "client_credentials"}
