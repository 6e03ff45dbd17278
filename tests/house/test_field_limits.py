"""openapi.json and the reference that is generated from it have the limit of every field of a request."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.events.schemas import event_schemas
from docs_reference import openapi, schema_text
from streams.core.events.event_data import EVENT_TYPES, data_schema

SCHEMA = openapi()
COMPONENTS: dict[str, Any] = SCHEMA["components"]["schemas"]
BOUNDS_TEXT = {"maxLength", "pattern", "enum", "const", "format"}


def request_models(schema: Any) -> set[str]:
    """The components that a request may contain."""
    found: set[str] = set()
    open_parts = [schema]
    while open_parts:
        part = open_parts.pop()
        if isinstance(part, dict):
            name = part.get("$ref", "").rpartition("/")[2]
            if name and name not in found:
                found.add(name)
                open_parts.append(COMPONENTS[name])
        if isinstance(part, dict | list):
            open_parts += part.values() if isinstance(part, dict) else part
    return found


def request_schemas() -> dict[str, Any]:
    """The schema of each body and parameter, by its place."""
    found: dict[str, Any] = {}
    for path, operations in SCHEMA["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", []):
                found[f"{method} {path} {parameter['name']}"] = parameter["schema"]
            for name in request_models(operation.get("requestBody", {})):
                found[name] = COMPONENTS[name]
    return found


def unbounded(schema: dict[str, Any], where: str) -> Iterator[str]:
    """The places without a limit."""
    for part in ("anyOf", "oneOf", "allOf"):
        for option in schema.get(part, []):
            yield from unbounded(option, where)
    match schema.get("type"):
        case "string" if not BOUNDS_TEXT & schema.keys():
            yield where
        case "integer" if "maximum" not in schema and "exclusiveMaximum" not in schema:
            yield where
        case "array":
            if "maxItems" not in schema:
                yield where
            yield from unbounded(schema["items"], f"{where}[]")
        case "object":
            extra = schema.get("additionalProperties")
            if isinstance(extra, dict):
                yield from [where] if "maxProperties" not in schema else unbounded(extra, f"{where}.*")
                yield from unbounded(schema.get("propertyNames", {"type": "string"}) | {"type": "string"}, f"{where}.*")
            elif extra is not False:
                yield where
            for name, field in schema.get("properties", {}).items():
                yield from unbounded(field, f"{where}.{name}")


# Numbers in an event's data are doubles; the code limits integers.
NUMBERS = {
    *("UsageThresholdData.launches", "UsageThresholdData.limit"),
    *("NewTest.data.launches", "NewTest.data.limit"),
}
REQUESTS = request_schemas()


def test_request_schemas_are_found() -> None:
    assert {"NewWebhook", "WebhookChanges", "NewEvent", "SessionCompletedData", "DeadLetterFilter"} <= REQUESTS.keys()


@pytest.mark.parametrize("where", sorted(REQUESTS))
def test_every_field_of_a_request_has_a_limit(where: str) -> None:
    assert set(unbounded(REQUESTS[where], where)) - NUMBERS == set()


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_event_types_have_the_limits_of_data(event_type: str) -> None:
    assert set(unbounded(data_schema(event_type), "UsageThresholdData")) - NUMBERS == set()


def test_the_schema_of_events_has_each_type() -> None:
    [event] = [schema for name, schema in event_schemas().items() if name == "NewEvent"]
    assert event["properties"]["type"]["enum"] == list(EVENT_TYPES)
    assert len(event["properties"]["data"]["anyOf"]) == len(EVENT_TYPES)


# -- the reference ---------------------------------------------------------------------------------------------


def numbers_of(schema: dict[str, Any]) -> set[str]:
    """The limits of a field and its items."""
    names = ("maxLength", "maxItems", "maxProperties", "maximum", "minimum")
    numbers = {str(schema[name]).removesuffix(".0") for name in names if name in schema}
    inner = [schema.get(key) for key in ("items", "propertyNames", "additionalProperties")]
    for part in [*schema.get("anyOf", []), *(one for one in inner if isinstance(one, dict))]:
        numbers |= numbers_of(part)
    return numbers


FIELDS = {
    (name, field): schema
    for name, model in sorted(REQUESTS.items())
    for field, schema in model.get("properties", {}).items()
    if numbers_of(schema)
}


@pytest.mark.parametrize(("model", "field"), FIELDS)
def test_the_reference_has_the_limits_of_each_field(model: str, field: str) -> None:
    text = schema_text(FIELDS[model, field])
    for number in numbers_of(FIELDS[model, field]):
        assert re.search(rf"(?<![\w.]){re.escape(number)}\b", text), f"{number} is not in: {text}"
