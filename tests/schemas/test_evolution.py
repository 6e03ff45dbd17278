"""Schema changes keep old records readable and old readers working."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from inspect import get_annotations
from pathlib import Path
from typing import Any

import avro.schema
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaIncompatibilityType

import schemas
from schemas import Schema
from streams.adapters.avro.codec import AvroCodec, fingerprint_header
from streams.core.deliveries.attempt import Attempt, DeadLetter
from streams.core.deliveries.delivery import Delivery
from streams.core.events.event import parse_event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.ids import ID_DESCRIPTION
from streams.core.limits import MAX_ID_CHARACTERS
from streams.core.webhooks.webhook import Webhook

EVENT_TYPES_BY_RECORD = {name.title().replace(".", ""): fields for name, fields in EVENT_TYPES.items()}
HOW_TO_ADD_A_VERSION = (
    "schemas/{name}.avsc is no version that is read: write the change into schemas/history/{name}.{next}.avsc, and "
    "leave the versions before it as they are, because records were written with them (schemas/README.md)"
)

every_schema = pytest.mark.parametrize("name", schemas.NAMES)
every_older_version = pytest.mark.parametrize(
    ("name", "older"),
    [
        pytest.param(name, older, id=f"{name}.{number}")
        for name in schemas.NAMES
        for number, older in enumerate(schemas.history(name), start=1)
    ],
)


@every_schema
def test_what_is_written_is_the_newest_version_or_the_one_before(name: str) -> None:
    history = schemas.history(name)
    message = HOW_TO_ADD_A_VERSION.format(name=name, next=len(history) + 1)
    assert without_doc(schemas.current(name)) in [without_doc(version) for version in history[-2:]], message


@every_older_version
def test_records_of_older_versions_are_readable(name: str, older: Schema) -> None:
    assert incompatibilities(reader=newest(name), writer=older) == []


@every_older_version
def test_an_older_reader_can_read_all_but_new_union_branches(name: str, older: Schema) -> None:
    found = incompatibilities(reader=older, writer=newest(name))
    assert [kind for kind in found if kind is not SchemaIncompatibilityType.missing_union_branch] == []


def test_the_checker_detects_a_field_without_a_default() -> None:
    newer = schemas.current("delivery")
    newer["fields"].append({"name": "priority", "type": "int"})
    assert incompatibilities(reader=newer, writer=schemas.current("delivery"))


def test_every_version_has_its_own_fingerprint() -> None:
    headers = [fingerprint_header(version) for name in schemas.NAMES for version in schemas.history(name)]
    assert len(set(headers)) == len(headers)


@every_schema
def test_every_record_and_field_has_a_doc(name: str) -> None:
    silent = [part["name"] for part in named_parts(newest(name)) if not part.get("doc")]
    assert silent == []


@every_schema
def test_an_optional_field_is_null_by_default(name: str) -> None:
    for part in named_parts(newest(name)):
        if isinstance(part["type"], list) and "null" in part["type"]:
            assert part["type"][0] == "null", part["name"]
            assert part["default"] is None, part["name"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("delivery", Delivery), ("attempt", Attempt), ("dead_letter", DeadLetter), ("webhook", Webhook)],
)
def test_a_record_has_the_fields_of_its_class(name: str, value: type) -> None:
    in_schema = [field["name"].lower() for field in newest(name)["fields"]]
    assert in_schema == [field.replace("_", "") for field in get_annotations(value)]


def test_each_event_type_has_a_record_with_its_fields() -> None:
    [data] = [field["type"] for field in newest("session_event")["fields"] if field["name"] == "data"]
    in_schema = {record["name"]: [field["name"] for field in record["fields"]] for record in data}
    # Every type has these beside `data`.
    common = {"metadata", "sequence"}
    fields = {kind: [name for name in known if name not in common] for kind, known in EVENT_TYPES.items()}
    assert in_schema == {kind.title().replace(".", ""): names for kind, names in fields.items()}


def test_a_dead_letter_contains_the_delivery_schema() -> None:
    nested = newest("dead_letter")["fields"][0]["type"]
    delivery = newest("delivery")
    assert nested == {key: value for key, value in delivery.items() if key != "namespace"}


def newest(name: str) -> Schema:
    """The newest version that is read: the classes have its fields."""
    return schemas.history(name)[-1]


def incompatibilities(reader: Schema, writer: Schema) -> list[SchemaIncompatibilityType]:
    """Incompatibilities that Apache Avro's checker finds between `reader` and `writer`."""
    old, new = (avro.schema.parse(json.dumps(schema)) for schema in (reader, writer))
    return list(ReaderWriterCompatibilityChecker().get_compatibility(reader=old, writer=new).incompatibilities)


def named_parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every record and field, at any depth."""
    if isinstance(schema, dict):
        if "name" in schema:
            yield schema
        for part in schema.values():
            yield from named_parts(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from named_parts(part)


def without_doc(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: without_doc(part) for key, part in schema.items() if key != "doc"}
    return [without_doc(part) for part in schema] if isinstance(schema, list) else schema


def test_the_schema_of_events_has_the_limit_of_each_text() -> None:
    [data] = [field for field in newest("session_event")["fields"] if field["name"] == "data"]
    for record in data["type"]:
        for field in record["fields"]:
            kind = EVENT_TYPES_BY_RECORD[record["name"]][field["name"]].kind
            if kind.schema.get("pattern", "").endswith(f"{{1,{MAX_ID_CHARACTERS}}}$"):
                assert ID_DESCRIPTION in field["doc"], field
            elif "maxLength" in kind.schema:
                assert f"{kind.schema['maxLength']} characters" in field["doc"], field


def test_the_readme_shows_the_bytes_of_an_event() -> None:
    text = (Path(schemas.__file__).parent / "README.md").read_text()
    event = json.loads(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0])
    block = re.findall(r"```\n(c3 01 .*?)```", text, re.DOTALL)[0]
    shown = b"".join(bytes.fromhex(line.split("  ")[0]) for line in block.splitlines())
    assert f"{len(shown)} bytes" in text
    assert AvroCodec().decode(shown) == parse_event(
        {**event, "accountId": "acc_1"}, default_id="", now=datetime.max.replace(tzinfo=UTC)
    )
    assert f"`{int.from_bytes(shown[2:10], 'little'):#x}`" in text
