"""Read and write a partition's last commit while the members of the group change."""

from confluent_kafka import Consumer, KafkaError, TopicPartition

from streams.adapters.kafka.connection.transient_errors import repeat_if_transient, require_accepted

_TRANSIENT_CODES = frozenset(
    {
        # Until a heartbeat has given the client its newer epoch. librdkafka itself repeats only the request for the
        # offsets from which it reads.
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.UNSTABLE_OFFSET_COMMIT,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.REQUEST_TIMED_OUT,
    }
)


def read_commits(consumer: Consumer, partitions: list[TopicPartition], seconds: float) -> list[TopicPartition]:
    """The commits of these partitions. Repeats the request for up to `seconds`; raises `KafkaException`."""
    return repeat_if_transient(
        lambda: require_accepted(consumer.committed(partitions, seconds)), seconds, _TRANSIENT_CODES
    )


def write_commits(consumer: Consumer, ends: list[TopicPartition], seconds: float) -> None:
    """Commit, and wait for the response. Repeats this for up to `seconds`; raises `KafkaException`."""
    repeat_if_transient(
        lambda: require_accepted(consumer.commit(offsets=ends, asynchronous=False)), seconds, _TRANSIENT_CODES
    )
