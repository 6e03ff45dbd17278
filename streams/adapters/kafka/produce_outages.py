"""Which topics take no records at the moment. Each outage is logged once, and so is its end."""

from confluent_kafka import KafkaError

from streams.ports import Telemetry

# librdkafka's own codes for what a broker's metadata said; all other codes of a broker are positive.
_ANSWERS = frozenset({KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION})

# A record that waits for a topic is produced again far more often.
FORGOTTEN_SECONDS = 10.0


class ProduceOutages:
    """Tracks the outage of all brokers and the outage of each topic, such as a missing permission.

    A record that one topic takes says nothing about the other topics.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._no_broker = False
        self._topics: dict[str, str] = {}
        self._failed_at = 0.0

    def problems(self, now: float, *, idle: bool) -> list[str]:
        """Why some records cannot be produced at the moment, one line for the broker or for each topic.

        When the producer is `idle` a topic's outage is forgotten after a while: nobody would find out that it is over.
        """
        if idle and now - self._failed_at >= FORGOTTEN_SECONDS:
            self._topics.clear()
        broker = ["the broker takes no records"] if self._no_broker else []
        return broker + [f"the topic {topic} takes no records: {why}" for topic, why in sorted(self._topics.items())]

    def no_broker_answers(self, error: KafkaError) -> None:
        """Note that all brokers are away."""
        if not self._no_broker:
            self._no_broker = True
            self._telemetry.warning("broker unavailable; producing again until it takes the records", why=error.str())

    def failed(self, topic: str, error: KafkaError, now: float) -> None:
        """Note that a record of `topic` was not produced."""
        self._failed_at = now
        if error.code() > 0 or error.code() in _ANSWERS:
            self._broker_answered()
        # While no broker answers, a timeout says nothing about the topic.
        if not self._no_broker and topic not in self._topics:
            self._topics[topic] = error.str()
            self._telemetry.warning(
                "topic unavailable; producing again until it takes the records", topic=topic, why=error.str()
            )

    def succeeded(self, topic: str) -> None:
        """Note that a record of `topic` was acknowledged."""
        self._broker_answered()
        if self._topics and self._topics.pop(topic, None) is not None:
            self._telemetry.info("topic available again", topic=topic)

    def _broker_answered(self) -> None:
        if self._no_broker:
            self._no_broker = False
            self._telemetry.info("broker available again")
