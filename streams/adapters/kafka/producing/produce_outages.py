"""Track the topics that accept no records at the moment. Each outage is logged once at its start and at its end."""

from collections.abc import Sequence

from confluent_kafka import KafkaError

from streams.outage import BROKER, BROKER_AWAY, TOPIC, Outage, Outages
from streams.ports.runtime import Telemetry

# librdkafka's negative codes for errors in a broker's metadata. All other broker errors have positive codes.
_METADATA_ERROR_CODES = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})

# Records that wait for a topic are produced again far more often.
EXPIRY_SECONDS = 10.0


class ProduceOutages:
    """Tracks the outage of all brokers and the outage of each topic, such as a missing permission.

    A record that one topic accepts says nothing about the other topics.
    """

    def __init__(self, telemetry: Telemetry, outages: Outages) -> None:
        self._telemetry = telemetry
        self._broker = outages[BROKER]
        self._topics: dict[str, Outage] = {}
        self._failed_at = 0.0

    def problems(self, now: float, *, is_idle: bool) -> list[str]:
        """Why some records cannot be produced at the moment, one line for the broker or for each reason of topics.

        An `is_idle` producer forgets a topic's outage after a while, because it would not notice the end.
        """
        if is_idle and now - self._failed_at >= EXPIRY_SECONDS:
            self._topics.clear()
        topics: dict[str, list[str]] = {}
        for topic, outage in sorted(self._topics.items()):
            topics.setdefault(outage.why, []).append(topic)
        return [
            *([BROKER_AWAY] if self in self._broker else []),
            *(_unwritable_problem(*group) for group in topics.items()),
        ]

    def record_outage(self, error: KafkaError) -> None:
        """Note that all brokers are away."""
        self._broker.begin(self, error.str())

    def record_failure(self, topic: str, error: KafkaError, now: float) -> None:
        """Note that a record of `topic` was not produced."""
        self._failed_at = now
        if error.code() > 0 or error.code() in _METADATA_ERROR_CODES:
            self._broker.end(self)
        # While no broker answers, a timeout says nothing about the topic.
        if self not in self._broker and topic not in self._topics:
            self._topics[topic] = Outage(self._telemetry, TOPIC, {"topic": topic})
            self._topics[topic].begin(self, error.str())

    def record_success(self, topic: str) -> None:
        """Note that a record of `topic` was acknowledged."""
        self._broker.end(self)
        if self._topics and (outage := self._topics.pop(topic, None)):
            outage.end(self)


def _unwritable_problem(reason: str, topics: Sequence[str]) -> str:
    subject = f"the topic {topics[0]} takes" if len(topics) == 1 else f"the topics {', '.join(topics)} take"
    return f"{subject} no records: {reason}"
