"""A topic that was deleted and made again is recognised."""

import pytest
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from conftest import Broker
from contract.clusters import TOPICS, KafkaCluster
from e2e.system import until
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.kafka.embedded import EmbeddedBroker
from streams.core.errors import Unavailable
from streams.topics import SESSION_EVENTS


def test_a_topic_keeps_its_incarnation(kafka_cluster: KafkaCluster) -> None:
    found = [TopicsAdmin(kafka_cluster.properties, kafka_cluster.prefix).incarnation(SESSION_EVENTS) for _ in range(2)]
    assert found[0] == found[1]


@pytest.mark.real
def test_a_recreated_topic_has_another_incarnation(kafka: Broker, topic_prefix: str) -> None:
    properties: dict[str, str | int | float | bool] = {"bootstrap.servers": kafka.bootstrap}
    admin, ours = AdminClient(properties), TopicsAdmin(properties, topic_prefix)
    name = f"{topic_prefix}{SESSION_EVENTS}"
    seen = set()
    for _ in range(2):
        admin.create_topics([NewTopic(name, 1, 1)])[name].result(20)
        until(lambda: SESSION_EVENTS in ours.partition_counts(), 20)
        seen.add(ours.incarnation(SESSION_EVENTS))
        admin.delete_topics([name])[name].result(20)
        until(lambda: SESSION_EVENTS not in ours.partition_counts(), 20)
    assert len(seen) == 2
    with pytest.raises(Unavailable):
        ours.incarnation(SESSION_EVENTS)


def test_each_embedded_broker_has_its_own_incarnation(topic_prefix: str) -> None:
    seen = set()
    for _ in range(2):
        with EmbeddedBroker(TOPICS, topic_prefix) as broker:
            seen.add(TopicsAdmin({"bootstrap.servers": broker.bootstrap}, topic_prefix).incarnation(SESSION_EVENTS))
    assert len(seen) == 2
