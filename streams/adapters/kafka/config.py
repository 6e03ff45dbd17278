"""How Kafka clients are configured: what we promise is fixed, the rest is the operator's."""

import os
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.core.errors import Misconfigured
from streams.topics import BATCH_BYTES, LARGEST_RECORD_BYTES

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

Properties = dict[str, Any]

SERVERS = "KAFKA_BOOTSTRAP_SERVERS"
PREFIX = "KAFKA_CONFIG_"

# Not lost, not twice, not on another partition: these decide it, so nobody else sets them.
_PRODUCER = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
    # The largest record that any of our topics takes, before compression; librdkafka's default refuses it.
    "message.max.bytes": LARGEST_RECORD_BYTES,
    # A batch of many records always fits where a record of ours does.
    "batch.size": BATCH_BYTES,
}
_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # Offsets of a group expire, and "latest" would skip what is owed.
    "auto.offset.reset": "earliest",
}
# `range` gives partition i of every retry tier to the one that has partition i of `deliveries`. With this
# protocol the timers are the broker's: librdkafka refuses session and heartbeat settings.
_GROUP = {"group.protocol": "consumer", "group.remote.assignor": "range"}

OWNED = frozenset(
    {
        *_PRODUCER,
        *_CONSUMER,
        *_GROUP,
        "bootstrap.servers",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "heartbeat.interval.ms",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "request.required.acks",
        "session.timeout.ms",
        "test.mock.num.brokers",
        "transactional.id",
    }
)

_PREFETCH = {
    # Who pauses a partition throws away what was fetched ahead of it.
    "queued.min.messages": 500,
    "queued.max.messages.kbytes": 2_048,
    "fetch.message.max.bytes": 131_072,
    "fetch.max.bytes": 1_048_576,
    # Its default of a second caps a consumer with so small a queue at 8 000 records a second.
    "fetch.queue.backoff.ms": 5,
    # A partition that is resumed waits for the fetch that is under way without it.
    "fetch.wait.max.ms": 100,
}


# Who reads a whole topic at once is given as much as fits at once, and what was given once is never given back.
_SMALL = {"queued.min.messages": 1_000, "queued.max.messages.kbytes": 1_024, "fetch.message.max.bytes": 131_072}


def producer_config(base: Mapping[str, Any], *, linger_ms: float = 0) -> Properties:
    """Of an idempotent producer that puts a key where every Kafka client would put it.

    `linger_ms` is added to every hop; a sender that hands over whole batches needs none.
    """
    # What only a consumer knows would be warned of at every start.
    base = {name: value for name, value in base.items() if not name.startswith(("fetch.", "queued."))}
    defaults = {"linger.ms": linger_ms, "compression.type": "lz4", "message.timeout.ms": 300_000}
    return {**defaults, **base, **_PRODUCER}


def consumer_config(
    base: Mapping[str, Any], group: str, instance_id: str | None = None, *, in_bulk: bool = False
) -> Properties:
    """Of a member of `group` that commits by itself; `instance_id` is a name that survives a restart.

    `in_bulk` is for who has time: fetches wait for company, `fetch.wait.max.ms` at most.
    """
    static = {"group.instance.id": instance_id} if instance_id else {}
    bulk = {"fetch.min.bytes": 262_144} if in_bulk else {}
    return {**_PREFETCH, **bulk, **base, **_CONSUMER, **_GROUP, "group.id": group, **static}


def subscriptions_config(base: Mapping[str, Any]) -> Properties:
    """Of a consumer that is assigned its partitions, reads them from the start, and never commits."""
    # librdkafka asks every consumer for a group's name; one that only assigns never joins it.
    return {
        **_PREFETCH,
        **_SMALL,
        **base,
        **_CONSUMER,
        "group.id": "scorm-webhooks.view",
        "enable.partition.eof": True,
    }


def kafka_properties(environ: Mapping[str, str]) -> Properties:
    """librdkafka's properties from `KAFKA_BOOTSTRAP_SERVERS` and every `KAFKA_CONFIG_<PROPERTY>`.

    `KAFKA_CONFIG_SECURITY_PROTOCOL` is `security.protocol`. Raises `Misconfigured`, naming the variable.
    """
    servers = environ.get(SERVERS, "").strip()
    if not servers:
        raise Misconfigured(f"{SERVERS} is not set: give one or more host:port, separated by commas")
    properties: Properties = {
        name.removeprefix(PREFIX).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(PREFIX)
    }
    if owned := sorted(OWNED & properties.keys()):
        raise Misconfigured(f"{variable(owned[0])} cannot be set: what this program promises rests on {owned[0]}")
    _try(properties)
    return {"bootstrap.servers": servers, **properties}


def variable(property_name: str) -> str:
    """The environment variable that sets a property."""
    return PREFIX + property_name.upper().replace(".", "_")


def _try(properties: Properties) -> None:
    """Let librdkafka itself judge names and values, by a client that connects to nobody."""
    try:
        AdminClient({**properties, "log_level": 0})
    except KafkaException as error:
        message = error.args[0].str().strip()
        named = [variable(name) for name in properties if name in message]
        raise Misconfigured(f"{', '.join(named) or PREFIX + '*'}: {message}") from None
    except (AttributeError, TypeError, ValueError) as error:  # a callback, which no text can be
        raise Misconfigured(f"{PREFIX}*: {error}") from None


# -- the same for Faust, which speaks by aiokafka ------------------------------------------------------------

_FAUST_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_FAUST_KNOWS = frozenset(
    {
        "enable.ssl.certificate.verification",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.ca.pem",
        "ssl.certificate.location",
        "ssl.endpoint.identification.algorithm",
        "ssl.key.location",
        "ssl.key.password",
    }
)


def faust_security(properties: Mapping[str, str]) -> "CredentialsT | None":
    """Faust's `broker_credentials` for the same properties; None for plain text.

    Raises `Misconfigured` for what Faust cannot do: to ignore it could be less safe than was asked for.
    """
    from faust.auth import SASLCredentials, SSLCredentials  # slow to import, and only fan-out has use for it

    for name in properties:
        if name.startswith(("sasl.", "ssl.", "enable.ssl.")) and name not in _FAUST_KNOWS:
            raise Misconfigured(f"{variable(name)} cannot be used: fan-out runs on Faust, which has no such option")
    protocol = properties.get("security.protocol", "plaintext").lower()
    context = _ssl_context(properties) if protocol.endswith("ssl") else None
    if protocol.startswith("sasl_"):
        return SASLCredentials(
            mechanism=_mechanism(properties),
            username=properties.get("sasl.username"),
            password=properties.get("sasl.password"),
            ssl_context=context,
        )
    return SSLCredentials(context) if context else None


def _mechanism(properties: Mapping[str, str]) -> str:
    name = "sasl.mechanism" if "sasl.mechanism" in properties else "sasl.mechanisms"
    mechanism = properties.get(name, "GSSAPI")  # librdkafka's default
    if mechanism not in _FAUST_MECHANISMS:
        known = ", ".join(_FAUST_MECHANISMS)
        raise Misconfigured(f"{variable('sasl.mechanism')} is {mechanism}: fan-out can do {known}")
    return mechanism


def _ssl_context(properties: Mapping[str, str]) -> ssl.SSLContext:
    authority = properties.get("ssl.ca.location", "probe")
    place = {"capath" if os.path.isdir(authority) else "cafile": authority} if authority != "probe" else {}
    files = ("ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location")
    try:
        # With an authority given the system's own are not trusted, as in librdkafka.
        context = ssl.create_default_context(
            cafile=place.get("cafile"), capath=place.get("capath"), cadata=properties.get("ssl.ca.pem")
        )
        if certificate := properties.get("ssl.certificate.location"):
            # Without a password OpenSSL would ask the terminal for one.
            password = properties.get("ssl.key.password", "")
            context.load_cert_chain(certificate, properties.get("ssl.key.location"), password)
    except OSError as error:
        named = ", ".join(variable(name) for name in files if name in properties)
        raise Misconfigured(f"{named}: {error}") from error
    if properties.get("ssl.endpoint.identification.algorithm", "https").lower() == "none":
        context.check_hostname = False
    if properties.get("enable.ssl.certificate.verification", "true").lower() in ("false", "f", "0"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
