"""What an error of producing means: try again, refuse this record alone, or end the process."""

from enum import Enum, auto

from confluent_kafka import KafkaError


class ProduceError(Enum):
    """The three classes of errors that a producer meets."""

    AWAY = auto()  # a broker, a network or a permission that comes back: produce the record again
    REFUSED = auto()  # Kafka never takes this record: retrying does not help
    OURS = auto()  # this producer or its settings are wrong: it can do nothing more


# The record itself is at fault.
_REFUSED = frozenset(
    {
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)

# Every record would meet it again; a new process with other settings or another version would not.
_OURS = frozenset(
    {
        KafkaError._CONFLICT,
        KafkaError._CRIT_SYS_RESOURCE,
        KafkaError._FATAL,
        KafkaError._FENCED,
        KafkaError._GAPLESS_GUARANTEE,
        KafkaError._INCONSISTENT,
        KafkaError._INVALID_ARG,
        KafkaError._INVALID_TYPE,
        KafkaError._NOT_CONFIGURED,
        KafkaError._NOT_IMPLEMENTED,
        KafkaError._READ_ONLY,
        KafkaError._STATE,
        KafkaError._UNKNOWN_PROTOCOL,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.INVALID_REQUEST,
        KafkaError.INVALID_REQUIRED_ACKS,
        KafkaError.INVALID_TXN_STATE,
        KafkaError.PRODUCER_FENCED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_COMPRESSION_TYPE,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
        KafkaError.UNSUPPORTED_VERSION,
    }
)


def class_of(error: KafkaError) -> ProduceError:
    """The class of an error; an unknown code is waited out, for waiting loses nothing.

    A missing permission or topic is `AWAY` too: an operator can fix it without a restart, and `/readyz` names it.
    """
    if error.fatal() or error.code() in _OURS:
        return ProduceError.OURS
    return ProduceError.REFUSED if error.code() in _REFUSED else ProduceError.AWAY
