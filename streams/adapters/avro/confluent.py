"""Read and write events in Confluent's framing: a zero byte, the schema's id (4 bytes, big-endian), the Avro data."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastavro import parse_schema
from fastavro.schema import SchemaParseException, UnknownType

from schemas import Schema
from streams.adapters.avro.codec import HEADER_BYTES, AvroCodec, account_of
from streams.adapters.avro.records import EVENT_SCHEMA
from streams.core.errors import InvalidRecord, Misconfigured, Unavailable
from streams.core.events.event import Event
from streams.ports.kafka import RecordValue

URL_VARIABLE = "SCHEMA_REGISTRY_URL"
PROPERTY_PREFIX = "SCHEMA_REGISTRY_CONFIG_"

# The client's own default is no timeout, and several repeats. A request blocks the event loop of a stage.
_DEFAULT_PROPERTIES: Mapping[str, Any] = {"timeout": 3.0, "max.retries": 0}
# The client takes numbers only; an environment has texts.
_NUMBER_PROPERTIES = frozenset(
    {"timeout", "max.retries", "retries.wait.ms", "retries.max.wait.ms", "cache.capacity", "cache.latest.ttl.sec"}
)

_MAGIC = b"\0"
_FRAME_BYTES = 5
_NOT_FOUND = 404
# The registry's own codes, such as 40403. A 404 without such a code comes from a proxy or a wrong path, and says
# nothing about a schema.
_NO_SCHEMA_CODES = range(40400, 40500)


class Registry(Protocol):
    """A schema registry. Raises `Unavailable`, and `Misconfigured` if it rejects this client."""

    def schema(self, schema_id: int) -> Schema:
        """The schema of an id. Raises `InvalidRecord` for an unknown id."""

    def register(self, subject: str, schema: Schema) -> int:
        """Register a schema. Returns its id: the same schema always gets the same id."""


class ConfluentRegistry:
    """A `Registry` by confluent-kafka's client."""

    def __init__(self, url: str, properties: Mapping[str, Any]) -> None:
        try:
            from confluent_kafka.schema_registry import SchemaRegistryClient
        except ModuleNotFoundError as error:
            hint = "pip install 'scorm-webhooks[registry]'"
            raise Misconfigured(f"{URL_VARIABLE} is set, but the package {error.name} is missing: {hint}") from None
        # The client's own message would show the whole URL.
        if not all(_is_url(part.strip()) for part in url.split(",")):
            raise Misconfigured(
                f"{URL_VARIABLE}: must be https://host or http://host:port, or several, separated by commas"
            )
        try:
            self._client = SchemaRegistryClient.new_client({"url": url, **_DEFAULT_PROPERTIES, **properties})
        except (TypeError, ValueError) as error:
            raise Misconfigured(f"{URL_VARIABLE}: {error}") from None

    def schema(self, schema_id: int) -> Schema:
        text = self._request(lambda: self._client.get_schema(schema_id).schema_str, schema_id=schema_id)
        try:
            schema: Schema = json.loads(text)
        except ValueError:
            raise InvalidRecord(f"the registry's schema {schema_id} is not an Avro schema") from None
        return schema

    def register(self, subject: str, schema: Schema) -> int:
        from confluent_kafka.schema_registry import Schema as RegistrySchema

        registered_schema = RegistrySchema(json.dumps(schema), "AVRO")
        return int(self._request(lambda: self._find_or_register(subject, registered_schema), subject=subject))

    def _find_or_register(self, subject: str, schema: Any) -> int | None:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            # Registering even a known schema needs a permission that a producer may not have.
            schema_id: int | None = self._client.lookup_schema(subject, schema).schema_id
        except SchemaRegistryError as error:
            if error.http_status_code != _NOT_FOUND:
                raise
            schema_id = self._client.register_schema(subject, schema)
        return schema_id

    def _request(self, request: Callable[[], Any], schema_id: int | None = None, subject: str | None = None) -> Any:
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        try:
            return request()
        except SchemaRegistryError as error:
            status, message = error.http_status_code, error.error_message
            if schema_id is not None and error.error_code in _NO_SCHEMA_CODES:
                raise InvalidRecord(f"the schema registry has no schema of id {schema_id}") from None
            may_be_of_proxy = status == _NOT_FOUND and schema_id is not None
            if 400 <= status < 500 and status not in (408, 429) and not may_be_of_proxy:
                subject_of_request = f"our schema for subject {subject}" if subject else "the request"
                raise Misconfigured(
                    f"{URL_VARIABLE}: the registry rejects {subject_of_request} with {status}: {message}"
                ) from None
            raise Unavailable(f"the schema registry fails with {status}: {message}") from None
        except Exception as error:  # its HTTP client may raise anything
            reason = " ".join(str(error).split())
            raise Unavailable(f"the schema registry does not answer: {type(error).__name__}: {reason}") from None


class ConfluentCodec:
    """A `Codec` that reads events in both framings. It writes Confluent's framing if it has a `subject`.

    All other values stay in single-object encoding: only producers of events use a registry.
    """

    def __init__(self, avro_codec: AvroCodec, registry: Registry, subject: str | None = None) -> None:
        self._avro_codec = avro_codec
        self._registry = registry
        self._subject = subject
        self._writer_schemas: dict[int, Schema] = {}
        self._frame_prefix: bytes | None = None

    def encode(self, value: RecordValue) -> bytes:
        encoded = self._avro_codec.encode(value)
        if self._subject is None or not isinstance(value, Event):
            return encoded
        if self._frame_prefix is None:
            schema_id = self._registry.register(self._subject, self._avro_codec.writer_schema(EVENT_SCHEMA))
            self._frame_prefix = _MAGIC + schema_id.to_bytes(_FRAME_BYTES - 1, "big")
        return self._frame_prefix + encoded[HEADER_BYTES:]

    def decode(self, value: bytes) -> RecordValue:
        """Decode a value. Raises `Unavailable` while the registry cannot be reached; the record itself may be valid."""
        if value[:1] != _MAGIC:
            return self._avro_codec.decode(value)
        if len(value) < _FRAME_BYTES:
            raise InvalidRecord(f"it ends after {len(value)} bytes, within Confluent's framing")
        schema_id = int.from_bytes(value[1:_FRAME_BYTES], "big")
        return self._avro_codec.decode_written(value, _FRAME_BYTES, EVENT_SCHEMA, self._schema(schema_id))

    def account_of(self, value: bytes) -> str:
        """The account of an event; "" while its schema has not been requested yet."""
        if value[:1] != _MAGIC:
            return self._avro_codec.account_of(value)
        schema = self._writer_schemas.get(int.from_bytes(value[1:_FRAME_BYTES], "big"))
        return account_of(value, _FRAME_BYTES, schema) if schema else ""

    def _schema(self, schema_id: int) -> Schema:
        schema = self._writer_schemas.get(schema_id)
        if schema is None:
            registered_schema = self._registry.schema(schema_id)
            try:
                schema = self._writer_schemas[schema_id] = _parse(registered_schema)
            except (SchemaParseException, UnknownType, KeyError, TypeError) as error:
                raise InvalidRecord(f"the registry's schema {schema_id} is not a valid Avro schema: {error}") from None
        return schema


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    # The client's registry in memory, for tests.
    return is_web or text == "mock://"


def _parse(schema: Schema) -> Any:
    return parse_schema(schema)


def registry_properties(environ: Mapping[str, str]) -> dict[str, Any]:
    """The client's properties, from every `SCHEMA_REGISTRY_CONFIG_<PROPERTY>`. Underscores stand for dots.

    Raises `Misconfigured` for a text where a number is required.
    """
    texts = {
        name.removeprefix(PROPERTY_PREFIX).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(PROPERTY_PREFIX)
    }
    return {name: _parse_number(name, text) if name in _NUMBER_PROPERTIES else text for name, text in texts.items()}


def _parse_number(name: str, text: str) -> float:
    try:
        return int(text) if text.isdecimal() else float(text)
    except ValueError:
        raise Misconfigured(f"{PROPERTY_PREFIX}{name.upper().replace('.', '_')}: must be a number") from None
