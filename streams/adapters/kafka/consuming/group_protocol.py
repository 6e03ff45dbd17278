"""The two protocols by which group members share partitions, and which of them a broker has."""

import logging
import re
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from streams.core.errors import Misconfigured

AUTO, CONSUMER, CLASSIC = "auto", "consumer", "classic"

# `range` assigns partition i of every retry tier to the member with partition i of `deliveries`.
_PROPERTIES: dict[str, dict[str, Any]] = {
    # KIP-848. The broker sets the timers: librdkafka refuses session and heartbeat settings.
    CONSUMER: {"group.protocol": "consumer", "group.remote.assignor": "range"},
    # A rebalance stops all members: a killed member has time to return by its name, and heartbeats tell other members.
    CLASSIC: {
        "group.protocol": "classic",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 30_000,
        "heartbeat.interval.ms": 1_000,
    },
}
# With an older version librdkafka repeats its request and reports no error. Its log contains the broker's version.
_VERSION_PATTERN = re.compile(r"ApiKey ConsumerGroupHeartbeat \(68\) Versions \d+\.\.(\d+)")
_MIN_VERSION = 1


class GroupProtocol:
    """The protocol of one consumer. With `auto`, the brokers decide: `consumer` if they have it."""

    def __init__(self, choice: str = AUTO) -> None:
        self._choice = choice
        self._name = CLASSIC if choice == CLASSIC else CONSUMER
        self.is_decided = choice == CLASSIC

    @property
    def is_classic(self) -> bool:
        return self._name == CLASSIC

    @property
    def properties(self) -> dict[str, Any]:
        """librdkafka's properties for this protocol."""
        return _PROPERTIES[self._name]

    def decide(self, *, has_consumer: bool) -> None:
        """Note which protocol the brokers support. Raises `Misconfigured` if it is not the chosen one."""
        if not has_consumer and self._choice == CONSUMER:
            raise Misconfigured(
                "SCORM_WEBHOOKS_KAFKA_GROUP_PROTOCOL is consumer, which the brokers do not have: set it to auto"
            )
        self._name = CONSUMER if has_consumer else CLASSIC
        self.is_decided = True

    def assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin to read these partitions: in addition to others, or with `classic` instead of them."""
        if self.is_classic:
            consumer.assign(partitions)
        else:
            consumer.incremental_assign(partitions)


class _HeartbeatVersionHandler(logging.Handler):
    """Finds the newest version of `ConsumerGroupHeartbeat` in librdkafka's log."""

    def __init__(self) -> None:
        super().__init__()
        self.newest = -1

    def emit(self, record: logging.LogRecord) -> None:
        if match := _VERSION_PATTERN.search(record.getMessage()):
            self.newest = max(self.newest, int(match[1]))


def has_consumer_protocol(config: Mapping[str, Any], topic: str, seconds: float) -> bool:
    """Ask a broker whether it supports KIP-848, using a consumer built from `config` that joins no group. Raises
    `KafkaException`.
    """
    versions, log = _HeartbeatVersionHandler(), logging.Logger("versions")
    log.addHandler(versions)
    consumer = Consumer({**config, "debug": "feature", "logger": log})
    try:
        consumer.list_topics(topic, seconds)
        consumer.poll(0)  # hands over the log
    finally:
        consumer.close()
    return versions.newest >= _MIN_VERSION
