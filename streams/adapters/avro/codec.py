"""Encode record values in Avro single-object encoding. Every version of a schema stays readable, by its fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import Any

from fastavro import parse_schema, schemaless_reader, schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

import schemas
from schemas import Schema
from streams.adapters.avro.records import EVENT_SCHEMA, VALUES, Convert
from streams.core.errors import FieldError, Invalid, InvalidRecord, NewerRecord
from streams.core.events.event import Event
from streams.ports.kafka import RecordValue

MAGIC = b"\xc3\x01"
HEADER_BYTES = 10
# Reads only the account of an event.
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
    is_newest: bool


@dataclass(frozen=True, slots=True)
class _SchemaReader:
    name: str
    writer_schema: Schema
    reader_schema: Schema | None
    to_value: Convert


class AvroCodec:
    """A `Codec` in single-object encoding.

    `versions` has the versions of each schema that the codec reads, oldest first. It writes the last, or the one in
    `written`: processes of the release before cannot read a version that is new in this release. Raises `ValueError`
    for two versions that differ on the wire but share a fingerprint.
    """

    def __init__(
        self, versions: Mapping[str, Sequence[Schema]] | None = None, written: Mapping[str, Schema] | None = None
    ) -> None:
        self._writers: dict[type, _Writer] = {}
        self._readers: dict[bytes, _SchemaReader] = {}
        self._newest_schemas: dict[str, Schema] = {}
        if versions is None:
            versions = {name: schemas.history(name) for name in schemas.NAMES}
            written = {name: schemas.current(name) for name in schemas.NAMES}
        for name, schema_versions in versions.items():
            value, _, to_value = VALUES[name]
            self._writers[value] = _writer(name, (written or {}).get(name, schema_versions[-1]), schema_versions[-1])
            self._newest_schemas[name] = newest = _parse(schema_versions[-1])
            for schema in schema_versions:
                # The newest version needs no schema resolution, which saves a third of the time.
                target = None if fingerprint_header(schema) == fingerprint_header(schema_versions[-1]) else newest
                self._register(fingerprint_header(schema), _SchemaReader(name, _parse(schema), target, to_value))

    def writer_schema(self, name: str) -> Schema:
        """The schema for writing values of `name`."""
        return self._writers[VALUES[name][0]].writer_schema

    def _register(self, header: bytes, reader: _SchemaReader) -> None:
        existing = self._readers.setdefault(header, reader)
        if _without_docs(existing.writer_schema) != _without_docs(reader.writer_schema):
            raise ValueError(
                f"{reader.name}: two versions have the fingerprint {_fingerprint_text(header)} but different meanings; "
                "a change of logicalType needs a new field"
            )

    def encode(self, value: RecordValue) -> bytes:
        """Encode a value. Raises `Invalid` for an event that its schema cannot hold."""
        writer = self._writers[type(value)]
        output = BytesIO()
        output.write(writer.header)
        record = writer.to_record(value)
        try:
            # An older version has no place for the newest fields.
            schemaless_writer(output, writer.parsed_schema, record, strict_allow_default=writer.is_newest)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            if isinstance(value, Event):
                raise Invalid(FieldError("event", f"does not fit its schema: {error}")) from error
            raise
        return output.getvalue()

    def decode(self, value: bytes) -> RecordValue:
        """Decode a value that any known version wrote.

        Raises `NewerRecord` for an unknown version or word, and `InvalidRecord` for anything else.
        """
        reader = self._readers.get(value[:HEADER_BYTES])
        if reader is None:
            raise _unknown_schema_error(value)
        return _decode(value, HEADER_BYTES, reader)

    def account_of(self, value: bytes) -> str:
        """The account of an event; "" for any other value."""
        reader = self._readers.get(value[:HEADER_BYTES])
        return account_of(value, HEADER_BYTES, reader.writer_schema) if reader and reader.name == EVENT_SCHEMA else ""

    def decode_written(self, value: bytes, start: int, name: str, schema: Schema) -> RecordValue:
        """Decode a value of schema `name`, written with `schema`, from byte `start` on.

        Raises `InvalidRecord`.
        """
        return _decode(value, start, _SchemaReader(name, schema, self._newest_schemas[name], VALUES[name][2]))


def _writer(name: str, schema: Schema, newest: Schema) -> _Writer:
    return _Writer(
        schema,
        _parse(schema),
        fingerprint_header(schema),
        VALUES[name][1],
        fingerprint_header(schema) == fingerprint_header(newest),
    )


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


def _decode(value: bytes, start: int, reader: _SchemaReader) -> RecordValue:
    body = BytesIO(value)
    body.seek(start)
    # Only an event has a union of records. Asking for the branch's name takes a tenth of the time.
    names = reader.name == EVENT_SCHEMA
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


def fingerprint_header(schema: Schema) -> bytes:
    """The first ten bytes of every value written with `schema`: C3 01 and its CRC-64-AVRO, little-endian."""
    return MAGIC + _fingerprint(to_parsing_canonical_form(schema))


@lru_cache(maxsize=64)
def _fingerprint(canonical_form: str) -> bytes:
    # Each takes a millisecond: the CRC is computed bit by bit in Python.
    return bytes.fromhex(fingerprint(canonical_form, "CRC-64-AVRO"))


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
