"""Encode record values in Avro single-object encoding. Every version of a schema stays readable, by its fingerprint."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from schemas import Schema
from streams.adapters.avro.records import EVENT, VALUES, Convert, fields_by_type
from streams.core.errors import FieldError, Invalid, InvalidRecord, NewerRecord
from streams.core.event import Event
from streams.core.event_data import EVENT_TYPES
from streams.core.webhook import Webhook
from streams.ports import RecordValue

FIELD_UNSUPPORTED_MESSAGE = (
    "is not taken yet: the operator sets SCORM_WEBHOOKS_RECORD_SCHEMAS=newest when no older release runs; "
    'a producer of its own says record_schemas="newest"'
)
# What an older schema lacks of these is left out: a receiver needs none of them.
OPTIONAL_FIELDS = frozenset({"sequence", "previousCompletionStatus", "previousSuccessStatus"})
MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
# Of an event only its account.
_ACCOUNT_SCHEMA: Any = parse_schema(
    {
        "type": "record",
        "name": "SessionEvent",
        "namespace": "scormwebhooks.v1",
        "fields": [{"name": "accountId", "type": "string"}],
    }
)


@dataclass(frozen=True, slots=True)
class _Writer:
    writer_schema: Schema
    parsed_schema: Schema
    header: bytes
    to_record: Convert
    # An older version lacks the fields of the newest one: they are left out.
    is_newest: bool
    # Of an event: the fields of each type's `data`.
    event_fields: Mapping[str, Set[str]]


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    writer_schema: Schema
    reader_schema: Schema | None
    to_value: Convert


class AvroCodec:
    """A `Codec` in single-object encoding.

    `versions` has the versions of each schema, oldest first. The codec reads all. It writes the one whose number
    `versions_written` has, counted from 1, and without a number the last one. A webhook with a filter is always
    written with the last one: a reader that knows no filters must fail, or the webhook would get events that it
    excludes. Raises `ValueError` for two versions that differ on the wire but share a fingerprint.
    """

    def __init__(
        self, versions: Mapping[str, Sequence[Schema]] | None = None, versions_written: Mapping[str, int] | None = None
    ) -> None:
        self._writers: dict[type, _Writer] = {}
        self._readers: dict[bytes, _Reader] = {}
        self._newest_schemas: dict[str, Schema] = {}
        for name, schema_versions in (versions or {name: _versions(name) for name in schemas.NAMES}).items():
            value, _, to_value = VALUES[name]
            schema_written = schema_versions[(versions_written or {}).get(name, len(schema_versions)) - 1]
            self._writers[value] = _writer(name, schema_written, schema_written is schema_versions[-1])
            if value is Webhook:
                self._filter_writer = _writer(name, schema_versions[-1], is_newest=True)
            self._newest_schemas[name] = newest = _parse(schema_versions[-1])
            for schema in schema_versions:
                # The newest version needs no schema resolution, which saves a third of the time.
                target = None if header(schema) == header(schema_versions[-1]) else newest
                self._register(header(schema), _Reader(name, _parse(schema), target, to_value))

    def writer_schema(self, name: str) -> Schema:
        """The schema that values of `name` are written with."""
        return self._writers[VALUES[name][0]].writer_schema

    def _register(self, header: bytes, reader: _Reader) -> None:
        existing = self._readers.setdefault(header, reader)
        if _without_docs(existing.writer_schema) != _without_docs(reader.writer_schema):
            raise ValueError(
                f"{reader.name}: two versions have the fingerprint {_fingerprint_text(header)} but different meanings; "
                "a change of logicalType needs a new field"
            )

    def encode(self, value: RecordValue) -> bytes:
        """Encode a value. Raises `Invalid` for an event that its schema cannot hold."""
        writer = self._writers[type(value)]
        if isinstance(value, Webhook) and value.filter is not None:
            writer = self._filter_writer
        if isinstance(value, Event) and not writer.is_newest:
            _require_supported(value, writer.event_fields)
        output = BytesIO()
        output.write(writer.header)
        record = writer.to_record(value)
        try:
            schemaless_writer(output, writer.parsed_schema, record, strict_allow_default=writer.is_newest)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if isinstance(value, Event):
                raise Invalid(FieldError("event", f"does not fit its schema: {error}")) from error
            raise
        return output.getvalue()

    def decode(self, value: bytes) -> RecordValue:
        """Decode what any known version wrote.

        Raises `NewerRecord` for an unknown version or word, and `InvalidRecord` for anything else.
        """
        reader = self._readers.get(value[:HEADER_BYTES])
        if reader is None:
            raise _unknown_schema_error(value)
        return _decode(value, HEADER_BYTES, reader)

    def account_of(self, value: bytes) -> str:
        """The account of an event; "" for any other value."""
        reader = self._readers.get(value[:HEADER_BYTES])
        return account_of(value, HEADER_BYTES, reader.writer_schema) if reader and reader.name == EVENT else ""

    def decode_written(self, value: bytes, start: int, name: str, schema: Schema) -> RecordValue:
        """Decode a value of schema `name`, written with `schema`, from byte `start` on.

        Raises `InvalidRecord`.
        """
        return _decode(value, start, _Reader(name, schema, self._newest_schemas[name], VALUES[name][2]))


def _writer(name: str, schema: Schema, is_newest: bool) -> _Writer:
    event_fields = fields_by_type(schema) if name == EVENT else {}
    return _Writer(schema, _parse(schema), header(schema), VALUES[name][1], is_newest, event_fields)


def _require_supported(event: Event, event_fields: Mapping[str, Set[str]]) -> None:
    """Raises `Invalid` if the schema that is written lacks a field, or the type."""
    if event.type in EVENT_TYPES and event.type not in event_fields:
        raise Invalid(FieldError("type", f"{event.type} {FIELD_UNSUPPORTED_MESSAGE}"))
    missing_fields = event.data.keys() - event_fields.get(event.type, event.data.keys()) - OPTIONAL_FIELDS
    if missing_fields:
        raise Invalid(*(FieldError(f"data.{name}", FIELD_UNSUPPORTED_MESSAGE) for name in sorted(missing_fields)))


def account_of(value: bytes, start: int, schema: Schema) -> str:
    """The account of an event that was written with this schema; "" for damaged bytes."""
    body = BytesIO(value)
    body.seek(start)
    try:
        # All other fields are skipped, not built.
        record: Any = schemaless_reader(body, schema, _ACCOUNT_SCHEMA)
        return str(record["accountId"])
    except Exception:  # damaged bytes raise almost any exception; `decode` says what is wrong
        return ""


def _versions(name: str) -> list[Schema]:
    # The current one has the newest docs, which a registry shows.
    return [*schemas.history(name)[:-1], schemas.current(name)]


def _decode(value: bytes, start: int, reader: _Reader) -> RecordValue:
    body = BytesIO(value)
    body.seek(start)
    # Only an event has a union of records. To ask for the branch's name takes a tenth of the time.
    names = reader.name == EVENT
    try:
        record: Any = schemaless_reader(
            body,
            reader.writer_schema,
            reader.reader_schema,
            return_record_name=names,
            return_record_name_override=names,
        )
    except EOFError:
        raise InvalidRecord(f"{reader.name}: it ends after {len(value)} bytes, before its last field") from None
    except Exception as error:  # damaged bytes raise almost any exception
        raise InvalidRecord(f"{reader.name}: it is damaged ({type(error).__name__}: {error})") from error
    if bytes_left := len(value) - body.tell():
        raise InvalidRecord(f"{reader.name}: {bytes_left} bytes follow its last field")
    try:
        decoded_value: RecordValue = reader.to_value(record)
    except InvalidRecord as error:
        raise type(error)(f"{reader.name}: {error}") from None
    except Exception as error:  # a field of an unexpected type
        raise InvalidRecord(f"{reader.name}: it is damaged ({type(error).__name__}: {error})") from error
    return decoded_value


def header(schema: Schema) -> bytes:
    """The first ten bytes of every value written with `schema`: C3 01 and its CRC-64-AVRO, little-endian."""
    return MAGIC + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _parse(schema: Schema) -> Any:
    parsed_schema: Any = parse_schema(schema)
    return parsed_schema


def _without_docs(schema: Any) -> Any:
    """The schema without the attributes that do not change the bytes."""
    if isinstance(schema, list):
        return [_without_docs(part) for part in schema]
    if isinstance(schema, dict):
        ignored_names = ("doc", "default", "aliases")
        return {
            key: _without_docs(part)
            for key, part in schema.items()
            if key not in ignored_names and not key.startswith("__")
        }
    return schema


def _fingerprint_text(header: bytes) -> str:
    return f"{int.from_bytes(header[2:HEADER_BYTES], 'little'):016x}"


def _unknown_schema_error(value: bytes) -> InvalidRecord:
    if not value.startswith(MAGIC):
        start = value[:2].hex(" ") or "nothing"
        hint = "; 00 is Confluent's framing: set SCHEMA_REGISTRY_URL to read it" if value[:1] == b"\0" else ""
        return InvalidRecord(f"it begins with {start}, not with c3 01 (Avro single-object encoding){hint}")
    if len(value) < HEADER_BYTES:
        return InvalidRecord(f"it ends after {len(value)} bytes, within the schema's fingerprint")
    return NewerRecord(f"no schema of this release has the fingerprint {_fingerprint_text(value)}; a newer one may")
