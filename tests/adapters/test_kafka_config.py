"""The environment cannot change what our guarantees depend on."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from faust.auth import SASLCredentials, SSLCredentials
from faust.types.auth import AuthProtocol, SASLMechanism

from streams.adapters.faust.credentials import faust_security
from streams.adapters.kafka.connection.config import (
    consumer_config,
    kafka_properties,
    producer_config,
    subscriptions_config,
)
from streams.adapters.kafka.consuming.group_protocol import GroupProtocol
from streams.core.errors import Misconfigured

SERVERS = {"KAFKA_BOOTSTRAP_SERVERS": "kafka-1:9092,kafka-2:9092"}


@pytest.fixture(scope="module")
def base() -> Iterator[dict[str, Any]]:
    """Properties of a client of the broker inside librdkafka."""
    broker = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    addresses = (f"{node.host}:{node.port}" for node in broker.list_topics(timeout=10).brokers.values())
    yield {"bootstrap.servers": ",".join(addresses)}
    broker.flush(0)


# -- where a key goes ------------------------------------------------------------------------------------------

# From Apache Kafka's own UtilsTest.
KNOWN_HASHES = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), KNOWN_HASHES.items())
def test_murmur2_by_hand_is_apache_kafkas(key: str, expected: int) -> None:
    assert murmur2(key.encode()) == expected


def test_a_key_goes_to_kafkas_standard_partition(base: dict[str, Any]) -> None:
    keys = [*KNOWN_HASHES, *(f"sess_{number}" for number in range(200)), "Zürich"]
    produced = produce(base, "keyed", keys)
    partitions = len(Producer(base).list_topics("keyed", timeout=10).topics["keyed"].partitions)
    assert partitions > 1
    chosen = {key: message.partition() for key, message in produced.items()}
    assert chosen == {key: (murmur2(key.encode()) & 0x7FFFFFFF) % partitions for key in keys}


def murmur2(data: bytes) -> int:
    """The hash of Apache Kafka's default partitioner, a signed 32-bit number."""
    mask, mix = 0xFFFFFFFF, 0x5BD1E995
    result = 0x9747B28C ^ len(data)
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * mix & mask
        word = (word ^ word >> 24) * mix & mask
        result = (result * mix & mask) ^ word
    if rest := data[whole:]:
        result = (result ^ int.from_bytes(rest, "little")) * mix & mask
    result = (result ^ result >> 13) * mix & mask
    result ^= result >> 15
    return result - (1 << 32) if result >> 31 else result


# -- clients ---------------------------------------------------------------------------------------------------


def test_a_new_group_reads_from_the_start(base: dict[str, Any]) -> None:
    produce(base, "earlier", ["a", "b", "c"])
    consumer = Consumer(consumer_config(base, "newcomers", "pod-0") | GroupProtocol("consumer").properties)
    consumer.subscribe(["earlier"])
    assert sorted(read(consumer, 3)) == ["a", "b", "c"]
    consumer.close()


def test_subscriptions_are_read_from_the_start_to_the_end(base: dict[str, Any]) -> None:
    produced = produce(base, "viewed", ["a"])
    consumer = Consumer(subscriptions_config(base))
    consumer.assign([TopicPartition("viewed", produced["a"].partition() or 0, 0)])
    assert read(consumer, 1) == ["a"]
    end = next(message for message in iter(lambda: consumer.poll(10), None))
    error = end.error()
    assert error is not None
    assert error.code() == KafkaError._PARTITION_EOF
    consumer.close()


def test_a_producer_gets_no_consumer_properties() -> None:
    config = producer_config({"bootstrap.servers": "kafka:9092", "fetch.wait.max.ms": "20", "client.id": "ours"})
    assert "fetch.wait.max.ms" not in config
    assert config["client.id"] == "ours"


def test_only_a_member_with_a_lasting_name_is_static() -> None:
    assert "group.instance.id" not in consumer_config({}, "g")
    assert consumer_config({}, "g", "pod-0")["group.instance.id"] == "pod-0"


def test_the_operator_may_set_other_properties() -> None:
    assert producer_config({"compression.type": "zstd"})["compression.type"] == "zstd"
    assert producer_config({})["linger.ms"] == 0
    assert producer_config({}, linger_ms=1)["linger.ms"] == 1


@pytest.mark.parametrize(
    ("owned", "value"),
    [("enable.auto.commit", False), ("auto.offset.reset", "earliest"), ("group.id", "g")],
)
def test_no_property_of_the_base_breaks_a_promise(owned: str, value: object) -> None:
    assert consumer_config({owned: "broken"}, "g")[owned] == value


def produce(base: dict[str, Any], topic: str, keys: list[str]) -> dict[str, Message]:
    """The acknowledged record of each key."""
    produced: dict[str, Message] = {}
    errors: list[KafkaError] = []

    def settle(error: KafkaError | None, message: Message) -> None:
        produced[(message.key() or b"").decode()] = message
        if error:
            errors.append(error)

    producer = Producer(producer_config(base))
    producer.list_topics(topic, timeout=10)  # creates the topic
    for key in keys:
        producer.produce(topic, b"", key, on_delivery=settle)
    assert producer.flush(10) == 0
    assert errors == []
    return produced


def read(consumer: Consumer, count: int) -> list[str]:
    """The keys of the next records."""
    found: list[str] = []
    while len(found) < count:
        message = consumer.poll(30)
        assert message is not None, f"only {found} came"
        key = message.key()
        if message.error() is None and key is not None:
            found.append(key.decode() if isinstance(key, bytes) else key)
    return found


# -- the environment -------------------------------------------------------------------------------------------


def test_variables_are_properties() -> None:
    environ = {
        **SERVERS,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "sasl_plaintext",
        "KAFKA_CONFIG_SASL_MECHANISM": "PLAIN",
        "KAFKA_CONFIG_SASL_USERNAME": "alice",
        "KAFKA_CONFIG_SASL_PASSWORD": "secret",
        "KAFKA_HOME": "/opt/kafka",
    }
    assert kafka_properties(environ) == {
        "bootstrap.servers": "kafka-1:9092,kafka-2:9092",
        "security.protocol": "sasl_plaintext",
        "sasl.mechanism": "PLAIN",
        "sasl.username": "alice",
        "sasl.password": "secret",
    }


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        ({"KAFKA_BOOTSTRAP_SERVERS": " "}, "KAFKA_BOOTSTRAP_SERVERS is not set"),
        (
            {**SERVERS, "KAFKA_CONFIG_ENABLE_AUTO_COMMIT": "true"},
            "KAFKA_CONFIG_ENABLE_AUTO_COMMIT cannot be set",
        ),
        ({**SERVERS, "KAFKA_CONFIG_GROUP_ID": "mine"}, "KAFKA_CONFIG_GROUP_ID cannot be set"),
        (
            {**SERVERS, "KAFKA_CONFIG_GROUP_PROTOCOL": "classic"},
            "KAFKA_CONFIG_GROUP_PROTOCOL cannot be set: set SCORM_WEBHOOKS_KAFKA_GROUP_PROTOCOL instead",
        ),
        ({**SERVERS, "KAFKA_CONFIG_PARTITIONER": "random"}, "KAFKA_CONFIG_PARTITIONER cannot be set"),
        ({**SERVERS, "KAFKA_CONFIG_FOO_BAR": "1"}, "KAFKA_CONFIG_FOO_BAR: No such configuration property"),
        (
            {**SERVERS, "KAFKA_CONFIG_SECURITY_PROTOCOL": "tls"},
            "KAFKA_CONFIG_SECURITY_PROTOCOL: Invalid value",
        ),
        (
            {**SERVERS, "KAFKA_CONFIG_SOCKET_TIMEOUT_MS": "soon"},
            "KAFKA_CONFIG_SOCKET_TIMEOUT_MS: Invalid value",
        ),
        (
            {**SERVERS, "KAFKA_CONFIG_ERROR_CB": "log"},
            "KAFKA_CONFIG_ERROR_CB: No such configuration property",
        ),
    ],
)
def test_a_wrong_property_is_one_line_with_its_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        kafka_properties(environ)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


# -- Faust -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with an authority, a client certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    client = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    client.private_key_pem.write_to_path(folder / "client.key")
    return folder


def test_faust_needs_nothing_for_plain_text() -> None:
    assert faust_security({"bootstrap.servers": "kafka:9092"}) is None


def test_faust_trusts_the_given_authority_and_no_other(files: Path) -> None:
    credentials = faust_security(
        {
            "security.protocol": "SSL",
            "ssl.ca.location": str(files / "ca.pem"),
            "ssl.certificate.location": str(files / "client.pem"),
            "ssl.key.location": str(files / "client.key"),
        }
    )
    assert isinstance(credentials, SSLCredentials)
    assert len(credentials.context.get_ca_certs()) == 1
    assert credentials.context.check_hostname
    assert credentials.context.verify_mode is ssl.CERT_REQUIRED


def test_faust_checks_the_host_name_by_default(files: Path) -> None:
    credentials = faust_security(
        {
            "security.protocol": "ssl",
            "ssl.ca.pem": (files / "ca.pem").read_text(),
            "ssl.endpoint.identification.algorithm": "none",
        }
    )
    assert isinstance(credentials, SSLCredentials)
    assert not credentials.context.check_hostname
    assert credentials.context.verify_mode is ssl.CERT_REQUIRED


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["sasl_plaintext", "SASL_SSL"])
def test_faust_signs_in_with_a_password(protocol: str, mechanism: str) -> None:
    credentials = faust_security(
        {
            "security.protocol": protocol,
            "sasl.mechanism": mechanism,
            "sasl.username": "alice",
            "sasl.password": "secret",
        }
    )
    assert isinstance(credentials, SASLCredentials)
    assert credentials.protocol is AuthProtocol(protocol.upper())
    assert credentials.mechanism is SASLMechanism(mechanism)
    assert (credentials.username, credentials.password) == ("alice", "secret")


# A grant that librdkafka knows.
BY_ASSERTION = {
    "sasl.oauthbearer.method": "oidc",
    "sasl.oauthbearer.grant.type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
    "sasl.oauthbearer.token.endpoint.url": "https://login.example.com/token",
    "sasl.oauthbearer.assertion.file": "/run/assertion.jwt",
}


def test_librdkafka_keeps_a_grant_that_faust_lacks() -> None:
    environ = {
        **SERVERS,
        "KAFKA_CONFIG_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_CONFIG_SASL_MECHANISM": "OAUTHBEARER",
        **{f"KAFKA_CONFIG_{name.upper().replace('.', '_')}": value for name, value in BY_ASSERTION.items()},
    }
    assert BY_ASSERTION.items() <= kafka_properties(environ).items()


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        (
            {"sasl.mechanism": "OAUTHBEARER"},
            "KAFKA_CONFIG_SASL_MECHANISM is OAUTHBEARER: fan-out can do PLAIN",
        ),
        ({"sasl.mechanisms": "GSSAPI"}, "KAFKA_CONFIG_SASL_MECHANISM is GSSAPI"),
        ({}, "KAFKA_CONFIG_SASL_MECHANISM is GSSAPI"),
        (
            {"sasl.mechanism": "OAUTHBEARER", **BY_ASSERTION},
            "KAFKA_CONFIG_SASL_OAUTHBEARER_ASSERTION_FILE cannot be used",
        ),
        ({"ssl.crl.location": "/crl.pem"}, "KAFKA_CONFIG_SSL_CRL_LOCATION cannot be used"),
        ({"ssl.ca.location": "/nowhere.pem"}, "KAFKA_CONFIG_SSL_CA_LOCATION: [Errno 2]"),
    ],
)
def test_a_property_that_faust_lacks_is_rejected(properties: dict[str, str], message: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        faust_security({"security.protocol": "sasl_ssl", **properties})
    assert message in str(refused.value)
