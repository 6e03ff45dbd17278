"""Every Kafka client signs in with tokens, and goes on when they end. Outages of the token endpoint say why."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

import parts
from builders import webhook
from conftest import left_out
from contract.test_security import EVENT, SECONDS, TOPICS, RecordCollector, in_background, log_of
from fakes import EventConsumer, FakeTelemetry, until
from real.oauth_kafka import OAuthKafka
from real.token_endpoint import AUDIENCE, CLIENT_ID, CLIENT_SECRET, TokenEndpoint
from streams.adapters.kafka.connection.tokens import keep_token
from streams.adapters.kafka.producing.record_producer import KafkaRecordProducer
from streams.core.errors import Unavailable
from streams.core.records.compacted_table import SENTINEL_KEY, Sentinel
from streams.core.records.offset_tracker import Commit
from streams.ports.kafka import Outgoing, Record
from streams.producer import EventProducer
from streams.runtime.bootstrap import SqlDeployment
from streams.runtime.startup_checks import StartupChecks
from streams.topics import ATTEMPTS, SESSION_EVENTS, SUBSCRIPTIONS

Environ = Mapping[str, str]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[TokenEndpoint]:
    endpoint = TokenEndpoint()
    endpoint.start()
    yield endpoint
    endpoint.stop()


@pytest.fixture(autouse=True)
def honest(endpoint: TokenEndpoint) -> None:
    """Each test starts with an endpoint that answers, with tokens of a minute."""
    endpoint.instead, endpoint.seconds, endpoint.audience = None, 60, AUDIENCE


@pytest.fixture(scope="module")
def oauth_kafka(endpoint: TokenEndpoint) -> Iterator[OAuthKafka]:
    if not (parts.java() and parts.kafka()):
        left_out("Kafka")
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


class Flow:
    """A load for every kind of client: what was produced, and what each consumer has read of it."""

    def __init__(self, deployment: SqlDeployment) -> None:
        self.deployment = deployment
        self.telemetry = FakeTelemetry()
        self.produced: list[bytes] = []
        self.handler = RecordCollector()
        self.events: list[bytes] = []
        self.consumer = deployment.consumer("record", [ATTEMPTS], self.telemetry)
        self.subscriptions = deployment.subscriptions_reader(self.telemetry)
        self.event_consumer = EventConsumer(deployment.event_client(self.telemetry), self.telemetry)

    async def handle(self, records: Sequence[Record]) -> None:
        self.events += [record.value or b"" for record in records]

    def has_all(self) -> bool:
        wanted = set(self.produced)
        return wanted <= {record.value for record in self.handler.records} and wanted <= set(self.events)

    async def begin(self, producer: KafkaRecordProducer) -> None:
        """Wait until every client has done its work once. New topics may be unknown for a moment."""
        await asyncio.wait_for(self.produce(producer, 0.1), SECONDS)
        await until(self.has_all, SECONDS)
        self.telemetry.logged.clear()

    async def produce(self, producer: KafkaRecordProducer, seconds: float) -> None:
        """Produce for a while, and read, ask and commit meanwhile."""
        known = Outgoing(SUBSCRIPTIONS, b"wh_1", self.deployment.codec.encode(webhook(id="wh_1")))
        await producer.produce([known, Outgoing(SUBSCRIPTIONS, SENTINEL_KEY.encode(), Sentinel("one", 1).encode())])
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while loop.time() < end:
            value = f"{len(self.produced)}".encode()
            await producer.produce([Outgoing(ATTEMPTS, b"key", value), Outgoing(SESSION_EVENTS, b"key", value)])
            self.produced.append(value)
            await self.subscriptions.catch_up()
            if self.handler.records:
                last = self.handler.records[-1]
                await self.consumer.commit({last.partition: Commit(last.offset + 1, "")})

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KafkaRecordProducer]:
        source = self.deployment.token_source
        assert source
        async with (
            log_of(self.deployment) as producer,
            in_background(keep_token(source, self.deployment.outages(self.telemetry))),
            in_background(self.consumer.run(self.handler)),
            in_background(self.subscriptions.run()),
            in_background(self.event_consumer.run(self.handle)),
        ):
            yield producer


@pytest.mark.parametrize("consumer", ["faust", "librdkafka"])
async def test_every_client_of_a_process_shares_one_token(
    environ: Environ, endpoint: TokenEndpoint, consumer: str
) -> None:
    asked = len(endpoint.forms)
    flow = Flow(SqlDeployment.from_environment({**environ, "SCORM_WEBHOOKS_FAN_OUT_CONSUMER": consumer}))
    assert flow.deployment.topics_admin().partition_counts() == {topic.name: topic.partitions for topic in TOPICS}
    async with flow.running() as producer:
        await asyncio.wait_for(flow.produce(producer, 0.1), SECONDS)
        await until(flow.has_all, SECONDS)
    assert flow.subscriptions.find("wh_1")
    assert endpoint.forms[asked:] == [{"grant_type": "client_credentials"}]


def rebalances(flow: Flow) -> int:
    return flow.telemetry.counts["rebalances_total"]


async def test_tokens_end_under_load_and_nothing_is_lost(environ: Environ, endpoint: TokenEndpoint) -> None:
    endpoint.seconds = 8
    flow = Flow(SqlDeployment.from_environment(environ))
    async with flow.running() as producer:
        await flow.begin(producer)
        await asyncio.wait_for(flow.produce(producer, 10), 3 * SECONDS)
        await until(flow.has_all, SECONDS)
        assert rebalances(flow) == 1
        assert flow.telemetry.logged == []


async def test_many_tokens_end_under_load(environ: Environ, endpoint: TokenEndpoint) -> None:
    endpoint.seconds = 10
    flow = Flow(SqlDeployment.from_environment(environ))
    async with flow.running() as producer:
        await flow.begin(producer)
        await asyncio.wait_for(flow.produce(producer, 60), 5 * SECONDS)
        await until(flow.has_all, SECONDS)
        assert rebalances(flow) == 1
        assert flow.telemetry.logged == []
    assert len(endpoint.tokens) > 7


async def test_clients_wait_while_the_token_endpoint_is_away(environ: Environ, endpoint: TokenEndpoint) -> None:
    endpoint.seconds = 10
    flow = Flow(SqlDeployment.from_environment(environ))
    async with flow.running() as producer:
        await flow.begin(producer)
        endpoint.instead = lambda: (503, b"")
        await until(lambda: flow.telemetry.logged_count("broker_unreachable") > 0, 2 * SECONDS)
        [(event, details), *_] = flow.telemetry.logged
        assert event == "kafka_token_unavailable"
        assert details["why"] == "the token endpoint answers with status 503"
        endpoint.instead, endpoint.seconds = None, 60
        await asyncio.wait_for(flow.produce(producer, 0.1), 2 * SECONDS)
        await until(flow.has_all, 2 * SECONDS)
    assert "kafka_token_available" in [event for event, _ in flow.telemetry.logged]
    assert CLIENT_SECRET not in str(flow.telemetry.logged)


async def test_a_stage_waits_for_its_first_token(environ: Environ, endpoint: TokenEndpoint) -> None:
    endpoint.instead = lambda: (401, b'{"error": "invalid_client"}')
    telemetry, notes = FakeTelemetry(), list[str]()
    deployment = SqlDeployment.from_environment(environ)
    checks = StartupChecks([ATTEMPTS]).wait_until_met(deployment, deployment.outages(telemetry), notes.append)
    waiting = asyncio.create_task(checks)
    await until(lambda: bool(telemetry.logged), SECONDS)
    assert telemetry.logged == [("kafka_token_unavailable", {"why": notes[0]})]
    assert notes[0] == "the token endpoint refuses this client: invalid_client"
    endpoint.instead = None
    await asyncio.wait_for(waiting, SECONDS)


async def test_a_refused_token_is_an_outage(environ: Environ, endpoint: TokenEndpoint) -> None:
    endpoint.audience = "another cluster"
    admin = SqlDeployment.from_environment(environ).topics_admin()
    with pytest.raises(Unavailable, match="SASL authentication error"):
        await asyncio.to_thread(admin.partition_counts, 3)


def test_an_event_producer_says_why_it_has_no_token(environ: Environ, endpoint: TokenEndpoint) -> None:
    theirs = {
        variable.removeprefix("KAFKA_CONFIG_").lower().replace("_", "."): value
        for variable, value in environ.items()
        if variable.startswith("KAFKA_CONFIG_")
    }
    endpoint.instead = lambda: (200, b"<html>")
    topic = environ["SCORM_WEBHOOKS_TOPIC_PREFIX"] + SESSION_EVENTS
    properties = {**theirs, "message.timeout.ms": "1500"}
    with EventProducer(environ["KAFKA_BOOTSTRAP_SERVERS"], topic=topic, properties=properties) as producer:
        error = producer.publish(EVENT).exception(SECONDS)
        assert isinstance(error, Unavailable)
        assert "the token endpoint answers with something else than a JSON object" in str(error)
        endpoint.instead = None
        while isinstance(producer.publish(EVENT).exception(SECONDS), Unavailable):
            pass
        assert producer.publish(EVENT).result(SECONDS).topic == topic
