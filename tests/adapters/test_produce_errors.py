"""Every error of librdkafka has one of three classes, and none loses a record."""

import pytest
from confluent_kafka import KafkaError

from streams.adapters.kafka.producing.produce_errors import ProduceError, class_of

REFUSED = {
    "INVALID_MSG_SIZE",
    "INVALID_RECORD",
    "INVALID_TIMESTAMP",
    "MSG_SIZE_TOO_LARGE",
    "RECORD_LIST_TOO_LARGE",
}
OURS = {
    "_CONFLICT",
    "_CRIT_SYS_RESOURCE",
    "_FATAL",
    "_FENCED",
    "_GAPLESS_GUARANTEE",
    "_INCONSISTENT",
    "_INVALID_ARG",
    "_INVALID_TYPE",
    "_NOT_CONFIGURED",
    "_NOT_IMPLEMENTED",
    "_READ_ONLY",
    "_STATE",
    "_UNKNOWN_PROTOCOL",
    "_UNSUPPORTED_FEATURE",
    "INVALID_PRODUCER_ID_MAPPING",
    "INVALID_REQUEST",
    "INVALID_REQUIRED_ACKS",
    "INVALID_TXN_STATE",
    "PRODUCER_FENCED",
    "TOPIC_EXCEPTION",
    "UNSUPPORTED_COMPRESSION_TYPE",
    "UNSUPPORTED_FOR_MESSAGE_FORMAT",
    "UNSUPPORTED_VERSION",
}
CODES = {name: code for name in dir(KafkaError) if isinstance(code := getattr(KafkaError, name), int)}


@pytest.mark.parametrize("name", sorted(CODES))
def test_an_error_of_producing_has_one_class(name: str) -> None:
    expected = ProduceError.REFUSED if name in REFUSED else ProduceError.OURS if name in OURS else ProduceError.AWAY
    assert class_of(KafkaError(CODES[name])) is expected


def test_the_library_still_has_the_errors_that_are_named() -> None:
    assert CODES.keys() >= REFUSED | OURS
    assert len(CODES) > 150


def test_a_fatal_error_ends_the_process_whatever_its_code() -> None:
    assert class_of(KafkaError(KafkaError._TRANSPORT, "broken", True)) is ProduceError.OURS


def test_an_unknown_error_counts_as_an_outage() -> None:
    assert class_of(KafkaError(30_000)) is ProduceError.AWAY
