"""Find the first and end offsets of a topic's partitions, with a consumer that only assigns."""

from functools import partial

from confluent_kafka import Consumer, TopicPartition

from streams.adapters.kafka.connection.transient_errors import repeat_if_transient
from streams.core.errors import Unavailable

REQUEST_SECONDS = 10.0


def partition_bounds(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """The first offset and the end of each partition of a topic. Raises `Unavailable` if the topic does not exist."""
    topic_metadata = consumer.list_topics(topic, REQUEST_SECONDS).topics[topic]
    if topic_metadata.error is not None:
        raise Unavailable(f"the topic {topic} does not exist: run `scorm-webhooks topics apply`")

    def bounds(number: int) -> tuple[int, int]:
        return consumer.get_watermark_offsets(TopicPartition(topic, number), REQUEST_SECONDS)

    return {
        number: repeat_if_transient(partial(bounds, number), REQUEST_SECONDS)
        for number in sorted(topic_metadata.partitions)
    }
