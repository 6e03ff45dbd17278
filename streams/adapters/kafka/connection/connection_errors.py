"""Remember why brokers cannot be reached. librdkafka reports it to a callback, not to the call that fails."""

import re
from collections.abc import Callable

from confluent_kafka import KafkaError

from streams.core.errors import Unavailable

# librdkafka puts counts into its reasons: without them, an unchanged reason is the same text.
_COUNTS = re.compile(r"\s*\(after \d+ms(?:[^()]|\([^()]*\))*\)")


def unreachable_error(servers: str, reason: KafkaError) -> Unavailable:
    """The error for brokers that do not respond: which ones, and why."""
    reason_text = _COUNTS.sub("", reason.str())
    return Unavailable(f"Kafka does not answer: KAFKA_BOOTSTRAP_SERVERS is {servers} ({reason_text})")


class ConnectionErrors:
    """An `error_cb`. It keeps the last error, and calls `on_outage` with it if no broker is left."""

    def __init__(self, on_outage: Callable[[KafkaError], object] | None = None) -> None:
        self._on_outage = on_outage
        self.last_error: KafkaError | None = None

    def __call__(self, error: KafkaError) -> None:
        # One lost connection is normal. The loss of all brokers is an outage.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self.last_error = error
        elif self._on_outage:
            self._on_outage(self.last_error or error)

    def clear(self) -> None:
        """Forget the last error after a broker responded."""
        self.last_error = None
