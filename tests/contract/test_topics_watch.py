"""A consumer reads a new topic without a restart."""

import pytest

from contract.clusters import PARTITIONS, KafkaCluster, RecordCollector, numbered, running, until
from streams.adapters.kafka.admin.topics_admin import TopicsAdmin
from streams.adapters.kafka.consuming.topics_watch import TopicsWatch
from streams.core.deliveries.schedule import parse_schedule
from streams.topics import TEST_DELIVERIES, declare, tier_of

pytestmark = pytest.mark.slow

LATER = "deliveries.retry.9s"
WITHIN_SECONDS = 10.0


def create_later(cluster: KafkaCluster) -> None:
    """Create a topic, as `topics apply` does after a change of the schedule."""
    if cluster.embedded:
        cluster.embedded.create(cluster.prefix + LATER, PARTITIONS)
        return
    admin = TopicsAdmin(cluster.properties, cluster.prefix)
    admin.apply(admin.plan(declare(parse_schedule("1s,2s,9s"), PARTITIONS, PARTITIONS)))


async def test_a_new_retry_topic_is_read_without_a_restart(kafka_cluster: KafkaCluster) -> None:
    consumer, handler = kafka_cluster.consumer(TEST_DELIVERIES), RecordCollector()
    admin = TopicsAdmin(kafka_cluster.properties, kafka_cluster.prefix)
    watch = TopicsWatch(
        admin.partition_counts, consumer.subscribe, lambda name: name == TEST_DELIVERIES or bool(tier_of(name)), [LATER]
    )
    async with kafka_cluster.producer() as producer, running(consumer.run(handler)), running(watch.run()):
        await producer.produce(numbered(TEST_DELIVERIES, 10))
        await until(lambda: len(handler.records) == 10 and watch.missing_topics == [LATER])
        create_later(kafka_cluster)
        await until(lambda: any(partition.topic == LATER for partition in handler.committed), WITHIN_SECONDS)
        await producer.produce([*numbered(LATER, 10), *numbered(TEST_DELIVERIES, 10)])
        await until(lambda: len(handler.records) == 30)
        assert (handler.gone, watch.missing_topics) == ([], [])
