"""Find which clients the members of a consumer group use."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from streams.adapters.kafka.connection.config import without_consumer_properties
from streams.adapters.kafka.connection.connection_errors import ConnectionErrors, unreachable_error
from streams.adapters.kafka.consuming.messages import LIBRDKAFKA_LOGGER

REQUEST_SECONDS = 5.0
# The client id of Faust consists of this and its version.
FAUST_CLIENT_PREFIX = "faust-"
# The embedded broker describes no groups. If a permission is missing, the consumer's own error is clearer.
_NO_ANSWER_CODES = frozenset(
    {
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.UNSUPPORTED_VERSION,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)


class GroupMembers:
    """The members of one group."""

    def __init__(self, properties: Mapping[str, Any], group: str) -> None:
        self._errors = ConnectionErrors()
        self._servers = str(properties["bootstrap.servers"])
        admin_properties = without_consumer_properties(properties)
        config: dict[str, Any] = {**admin_properties, "error_cb": self._errors, "logger": LIBRDKAFKA_LOGGER}
        self._admin = AdminClient(config)
        self._group = group

    def client_ids(self) -> list[str]:
        """The client id of each member; empty if the broker cannot or may not say. Raises `Unavailable`."""
        futures = self._admin.describe_consumer_groups([self._group], request_timeout=REQUEST_SECONDS)
        try:
            members = futures[self._group].result().members
        except KafkaException as error:
            kafka_error: KafkaError = error.args[0]
            if kafka_error.code() in _NO_ANSWER_CODES:
                return []
            raise unreachable_error(self._servers, self._errors.last_error or kafka_error) from None
        self._errors.clear()
        return [str(member.client_id) for member in members]
