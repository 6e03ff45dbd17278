"""Classify produce errors: retry, reject this record, or end the process."""

from enum import Enum, auto

from confluent_kafka import KafkaError, KafkaException


class ProduceError(Enum):
    """The class of a produce error."""

    AWAY = auto()  # a broker, the network or a permission is away: retry
    REFUSED = auto()  # Kafka never takes this record
    OURS = auto()  # this producer or its settings are wrong: end the process


# Errors of the record itself.
_REFUSED_CODES = frozenset(
    {
        KafkaError.INVALID_MSG_SIZE,
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
    }
)

# Errors of every record. Only a new process with other settings or another version gets past them.
_FATAL_CODES = frozenset(
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
    """The class of an error. An unknown code is `AWAY`: a retry loses nothing.

    A missing permission or topic is `AWAY`, too: an operator can add it without a restart, and `/readyz` names it.
    """
    if error.fatal() or error.code() in _FATAL_CODES:
        return ProduceError.OURS
    return ProduceError.REFUSED if error.code() in _REFUSED_CODES else ProduceError.AWAY


def fatal_error_of(raised: KafkaException | SystemError) -> KafkaError:
    """The fatal error that `poll` or `flush` raised. Raises any other exception again.

    confluent-kafka raises a fatal error there, once, in place of calling `error_cb`. A delivery report in the same call
    raises a SystemError, with the fatal error as its cause.
    """
    cause = raised if isinstance(raised, KafkaException) else raised.__cause__
    if not isinstance(cause, KafkaException):
        raise raised
    error: KafkaError = cause.args[0]
    return error
