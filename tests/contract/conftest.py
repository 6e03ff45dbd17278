"""Every port on each of its products: in memory, embedded in this process, and real."""

from collections.abc import Iterator

import pytest

from conftest import Broker
from contract.clusters import TOPICS, Cluster, FakeCluster, KafkaCluster
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.adapters.kafka.topics_admin import TopicsAdmin

KAFKA = pytest.param("apache", marks=pytest.mark.real)


@pytest.fixture(params=["fake", "embedded", KAFKA])
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """For what every Kafka does, the one of the stages' tests too."""
    cluster: Cluster = FakeCluster() if request.param == "fake" else request.getfixturevalue(request.param)
    return cluster


@pytest.fixture(params=["embedded", KAFKA])
def kafka_cluster(request: pytest.FixtureRequest) -> KafkaCluster:
    """For what only a broker with clients of its own can show."""
    cluster: KafkaCluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture
def embedded(topic_prefix: str) -> Iterator[KafkaCluster]:
    with EmbeddedBroker(TOPICS, topic_prefix) as broker:
        yield KafkaCluster({"bootstrap.servers": broker.bootstrap, "fetch.wait.max.ms": "20"}, topic_prefix)


@pytest.fixture
def apache(kafka: Broker, topic_prefix: str) -> KafkaCluster:
    properties = {"bootstrap.servers": kafka.bootstrap}
    admin = TopicsAdmin(properties, topic_prefix)
    admin.apply(admin.plan(TOPICS))
    return KafkaCluster(properties, topic_prefix)
