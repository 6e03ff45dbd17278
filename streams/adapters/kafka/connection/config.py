"""Configure Kafka clients. Properties that delivery guarantees depend on are fixed; operators set the others."""

from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streams.adapters.kafka.connection.msk import REGION_VARIABLE, msk_of
from streams.adapters.kafka.connection.security import mechanism_of, with_token_source
from streams.core.errors import Misconfigured
from streams.topics import BATCH_BYTES, MAX_RECORD_BYTES

Properties = dict[str, Any]

SERVERS_VARIABLE = "KAFKA_BOOTSTRAP_SERVERS"
PROPERTY_PREFIX = "KAFKA_CONFIG_"

# These properties keep records from being lost, repeated, or produced to another partition.
_PRODUCER_PROPERTIES = {
    "enable.idempotence": True,
    "acks": "all",
    "partitioner": "murmur2_random",
    # The largest record that any topic of the system accepts, before compression. librdkafka's default is smaller.
    "message.max.bytes": MAX_RECORD_BYTES,
    # A batch of many records is never larger than the largest record.
    "batch.size": BATCH_BYTES,
}
_CONSUMER_PROPERTIES = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A group's offsets expire, and "latest" would skip records.
    "auto.offset.reset": "earliest",
}
OWN_PROPERTIES = frozenset(
    {
        *_PRODUCER_PROPERTIES,
        *_CONSUMER_PROPERTIES,
        "bootstrap.servers",
        "enable.partition.eof",
        "group.id",
        "group.instance.id",
        "group.protocol",
        "group.remote.assignor",
        "heartbeat.interval.ms",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "request.required.acks",
        "session.timeout.ms",
        "test.mock.num.brokers",
        "transactional.id",
    }
)

# The system's own variables for fixed properties.
_VARIABLE_OF = {
    "bootstrap.servers": SERVERS_VARIABLE,
    "group.instance.id": "SCORM_WEBHOOKS_INSTANCE_ID",
    "group.protocol": "SCORM_WEBHOOKS_KAFKA_GROUP_PROTOCOL",
}

_PREFETCH_PROPERTIES = {
    # A pause drops prefetched records.
    "queued.min.messages": 500,
    "queued.max.messages.kbytes": 2_048,
    "fetch.message.max.bytes": 131_072,
    "fetch.max.bytes": 1_048_576,
    # With the default of a second, a consumer with this queue reads at most 8 000 records a second.
    "fetch.queue.backoff.ms": 5,
    # A fetch ends when a record comes, so only a resumed partition waits: for the current fetch, which does not include
    # it. Each fetch costs the broker and the process as much as an event.
    "fetch.wait.max.ms": 500,
}

# The caller of a test event waits for its attempt, whose record comes by such a fetch.
BULK_WAIT_MS = 250

# A consumer of a whole topic fills its queue at once, and librdkafka does not return this memory.
_SMALL_QUEUE_PROPERTIES = {
    "queued.min.messages": 1_000,
    "queued.max.messages.kbytes": 1_024,
    "fetch.message.max.bytes": 131_072,
}


def without_consumer_properties(base: Mapping[str, Any]) -> Properties:
    """Properties of clients other than consumers: librdkafka warns of consumer properties at every start."""
    return {name: value for name, value in base.items() if not name.startswith(("fetch.", "queued."))}


def producer_config(base: Mapping[str, Any], *, linger_ms: float = 0) -> Properties:
    """Properties of an idempotent producer with Kafka's standard partitioner.

    `linger_ms` adds to the latency of each record. A caller that produces whole batches needs none.
    """
    base = without_consumer_properties(base)
    defaults = {"linger.ms": linger_ms, "compression.type": "lz4", "message.timeout.ms": 300_000}
    return {**defaults, **base, **_PRODUCER_PROPERTIES}


def consumer_config(
    base: Mapping[str, Any], group: str, instance_id: str | None = None, *, is_bulk: bool = False
) -> Properties:
    """Properties of a member of `group` that commits explicitly, without the properties of the group's protocol.

    `instance_id` is a name that survives a restart. With `is_bulk`, a fetch waits for more records, which saves the
    broker requests.
    """
    static_membership = {"group.instance.id": instance_id} if instance_id else {}
    bulk_properties = {"fetch.min.bytes": 262_144, "fetch.wait.max.ms": BULK_WAIT_MS} if is_bulk else {}
    return {
        **_PREFETCH_PROPERTIES,
        **bulk_properties,
        **base,
        **_CONSUMER_PROPERTIES,
        "group.id": group,
        **static_membership,
    }


def subscriptions_config(base: Mapping[str, Any]) -> Properties:
    """Properties of a consumer that assigns its partitions itself, reads from the start, and never commits."""
    # librdkafka requires a group name. A consumer that only assigns never joins the group.
    return {
        **_PREFETCH_PROPERTIES,
        **_SMALL_QUEUE_PROPERTIES,
        **base,
        **_CONSUMER_PROPERTIES,
        "group.id": "scorm-webhooks.view",
        "enable.partition.eof": True,
    }


def kafka_properties(environ: Mapping[str, str]) -> Properties:
    """librdkafka's properties from `KAFKA_BOOTSTRAP_SERVERS` and every `KAFKA_CONFIG_<PROPERTY>`.

    `KAFKA_CONFIG_SECURITY_PROTOCOL` is `security.protocol`. With OAuth they include a token source, which the clients
    share. Raises `Misconfigured`, naming the variable.
    """
    servers = environ.get(SERVERS_VARIABLE, "").strip()
    if not servers:
        raise Misconfigured(f"{SERVERS_VARIABLE} is not set: give one or more host:port, separated by commas")
    properties: Properties = {
        name.removeprefix(PROPERTY_PREFIX).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(PROPERTY_PREFIX)
    }
    if owned_names := sorted(OWN_PROPERTIES & properties.keys()):
        reason = f"this program's guarantees depend on its value of {owned_names[0]}"
        if replacement := _VARIABLE_OF.get(owned_names[0]):
            reason = f"set {replacement} instead"
        raise Misconfigured(f"{variable(owned_names[0])} cannot be set: {reason}")
    secured_properties = with_token_source(_with_msk(properties, environ), variable)
    _validate(properties)
    return {"bootstrap.servers": servers, **secured_properties}


def variable(property_name: str) -> str:
    """The environment variable that sets a property."""
    return PROPERTY_PREFIX + property_name.upper().replace(".", "_")


def _with_msk(properties: Properties, environ: Mapping[str, str]) -> Properties:
    """The properties, plus Amazon MSK's if `KAFKA_MSK_REGION` is set."""
    conflicts = [name for name in properties if name.startswith("sasl.")]
    if properties.get("security.protocol", "sasl_ssl").lower() != "sasl_ssl":
        conflicts.append("security.protocol")
    if conflicts and environ.get(REGION_VARIABLE):
        raise Misconfigured(f"{variable(conflicts[0])} cannot be set together with {REGION_VARIABLE}, which sets it")
    return {**properties, **msk_of(environ)}


def _validate(properties: Properties) -> None:
    """Let librdkafka check names and values, with a client that does not connect. Raises `Misconfigured`."""
    # An OAuth client would fetch a token at once, and closing it would wait for that. Another check explains GSSAPI
    # better.
    check_properties = (
        {"security.protocol": "plaintext"} if mechanism_of(properties) in ("GSSAPI", "OAUTHBEARER") else {}
    )
    is_sasl = properties.get("security.protocol", "plaintext").lower().startswith("sasl_")
    try:
        AdminClient({**properties, **(check_properties if is_sasl else {}), "log_level": 0})
    except KafkaException as error:
        message = error.args[0].str().strip()
        names = [variable(name) for name in properties if name in message]
        raise Misconfigured(f"{', '.join(names) or PROPERTY_PREFIX + '*'}: {message}") from None
    except (AttributeError, TypeError, ValueError) as error:  # a callback cannot be a string
        raise Misconfigured(f"{PROPERTY_PREFIX}*: {error}") from None
