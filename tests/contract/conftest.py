"""Fixtures for each port on each of its products: in memory, embedded, and real."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from sqlalchemy.engine import URL

from conftest import Broker
from contract.clusters import TOPICS, Cluster, FakeCluster, KafkaCluster, cluster_on
from contract.stores import SqlStore, Store, fake_store, sql_store, unmigrated
from real.kafka import Kafka
from real.pgbouncer import PgBouncer
from streams.adapters.kafka.consuming.group_protocol import CLASSIC
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.sql.engine.database import database_url as url_of

# -- Kafka -----------------------------------------------------------------------------------------------------

KAFKA = pytest.param("apache", marks=pytest.mark.real)


@pytest.fixture(params=["fake", "embedded", KAFKA])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """Each kind of Kafka, the fake included."""
    cluster: Cluster = FakeCluster() if request.param == "fake" else request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(params=["embedded", KAFKA])
def kafka_cluster(request: pytest.FixtureRequest) -> KafkaCluster:
    """Each kind of Kafka with real clients."""
    cluster: KafkaCluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture
def embedded(topic_prefix: str) -> Iterator[KafkaCluster]:
    with EmbeddedBroker(TOPICS, topic_prefix) as broker:
        properties = {"bootstrap.servers": broker.bootstrap, "fetch.wait.max.ms": "20"}
        # The next member of a classic group waits for the session of the one that left.
        yield KafkaCluster(properties, topic_prefix, session_seconds=2.0, embedded=broker)


@pytest.fixture
def apache(kafka: Broker, topic_prefix: str) -> KafkaCluster:
    return cluster_on(kafka.bootstrap, topic_prefix)


@pytest.fixture
def classic(kafka: Broker, topic_prefix: str) -> KafkaCluster:
    """Members speak the classic protocol, although the broker has the newer one."""
    return cluster_on(kafka.bootstrap, topic_prefix, CLASSIC)


@pytest.fixture
def apache_3_7(kafka_3_7: Kafka, topic_prefix: str) -> KafkaCluster:
    return cluster_on(kafka_3_7.bootstrap, topic_prefix)


@pytest.fixture
def apache_3_9(kafka_3_9: Kafka, topic_prefix: str) -> KafkaCluster:
    return cluster_on(kafka_3_9.bootstrap, topic_prefix)


# -- the database ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["fake", "sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
def place(request: pytest.FixtureRequest) -> URL | None:
    """The URL of an empty database. None for the fake."""
    return None if request.param == "fake" else url_of(request.getfixturevalue(request.param))


@pytest.fixture
def connections() -> int:
    """The size of a database's pool. A file whose tests hold several connections has its own."""
    return 1


@pytest.fixture
def pooler() -> PgBouncer | None:
    """The pooler between us and PostgreSQL."""
    return None


@pytest_asyncio.fixture
async def store(place: URL | None, connections: int, pooler: PgBouncer | None) -> AsyncIterator[Store]:
    """Each kind of database, the fake included."""
    if place is None:
        yield fake_store()
        return
    async with sql_store(place, connections, pooler) as store:
        yield store


@pytest_asyncio.fixture
async def away(place: URL | None) -> AsyncIterator[Store]:
    """A database that is away, or fails."""
    if place is None:
        yield fake_store(away=True)
        return
    async with unmigrated(place) as store:
        yield store


@pytest.fixture
def url(database_url: str) -> URL:
    return url_of(database_url)


@pytest_asyncio.fixture
async def database(url: URL, connections: int, pooler: PgBouncer | None) -> AsyncIterator[SqlStore]:
    """Each kind of database with tables."""
    async with sql_store(url, connections, pooler) as store:
        yield store
