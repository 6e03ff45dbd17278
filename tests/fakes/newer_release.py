"""A release after this one: each of our schemas has one more field, and each enum may have one more word."""

from typing import Any

import schemas
from schemas import Schema
from streams.adapters.avro.codec import AvroCodec

FIELD = {"name": "addedLater", "type": ["null", "string"], "default": None, "doc": "A field of the next release."}


def newer_schemas() -> dict[str, list[Schema]]:
    """The versions of each schema that the next release reads, oldest first."""
    return {name: [*schemas.history(name), _with_field(schemas.history(name)[-1])] for name in schemas.NAMES}


def _with_field(schema: Any) -> Any:
    """The schema with one more field; a dead letter holds the newer delivery."""
    parts = [_with_field(part["type"]) if part["name"] == "delivery" else part["type"] for part in schema["fields"]]
    fields = [{**part, "type": type_} for part, type_ in zip(schema["fields"], parts, strict=True)]
    return {**schema, "fields": [*fields, FIELD]}


# Writes what this release cannot read, and reads what this one writes.
NEWER_CODEC = AvroCodec(newer_schemas())
