"""Open a consumer without a group, for a single read of a topic."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaException

from streams.adapters.kafka.connection.config import subscriptions_config
from streams.adapters.kafka.connection.connection_errors import ConnectionErrors, unreachable_error
from streams.adapters.kafka.connection.security import require_token
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER


class LoneConsumers:
    """Each `open` is a consumer of its own, closed at the end of the block."""

    def __init__(self, properties: Mapping[str, Any]) -> None:
        self._errors = ConnectionErrors()
        self._servers = str(properties["bootstrap.servers"])
        own_properties = {"auto.offset.reset": "earliest", "error_cb": self._errors, "logger": LIBRDKAFKA_LOGGER}
        self._config = {**subscriptions_config(properties), **own_properties}

    @contextmanager
    def open(self) -> Iterator[Consumer]:
        """Open a consumer. Raises `Unavailable` without a token, and for a `KafkaException` of the block."""
        require_token(self._config)
        consumer = Consumer(self._config)
        try:
            yield consumer
        except KafkaException as error:
            raise unreachable_error(self._servers, self._errors.last_error or error.args[0]) from None
        finally:
            consumer.close()
