"""The page of event types: when each is sent, its fields, and an example to copy."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.shell.page_route import PageRoute
from api.shell.rendering import render
from api.shell.visits import SignedIn
from api.webhooks.form import EXAMPLE_TIME, TYPE_DESCRIPTIONS, example_body
from streams.core.events.event_data import EVENT_DESCRIPTIONS, EVENT_TYPES, OPT_IN_TYPES
from streams.core.ids import ID_PATTERN

router = APIRouter(include_in_schema=False, route_class=PageRoute)

_FORMATS = {"duration": "ISO 8601 duration, such as PT12M34S", "date-time": "time (RFC 3339)"}


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A field of an event type's `data`, and what its value is."""

    name: str
    value: str
    is_required: bool


@dataclass(frozen=True, slots=True)
class TypeSection:
    """An event type; `example` is the body that an endpoint gets."""

    name: str
    summary: str
    description: str
    is_opt_in: bool
    fields: Sequence[FieldRow]
    example: object


@router.get("/events/types")
async def event_types_page(visit: SignedIn) -> Response:
    """All event types."""
    return render(visit, "event_types.html", types=[_section(name) for name in EVENT_TYPES])


def _section(name: str) -> TypeSection:
    fields = [
        FieldRow(field_name, value_description(field.kind.schema), field.is_required)
        for field_name, field in EVENT_TYPES[name].items()
    ]
    example = json.loads(example_body(name, EXAMPLE_TIME))
    return TypeSection(name, TYPE_DESCRIPTIONS[name], EVENT_DESCRIPTIONS[name], name in OPT_IN_TYPES, fields, example)


def value_description(schema: Mapping[str, Any]) -> str:
    """The values that a field's JSON Schema allows, in words."""
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "format" in schema:
        return _FORMATS[schema["format"]]
    minimum, maximum = schema.get("minimum"), schema.get("maximum")
    match schema["type"]:
        case "integer":
            return "whole number, 0 or more"
        case "number":
            return "number from -1 to 1" if (minimum, maximum) == (-1, 1) else "number"
        case "object":
            return f"object of texts, at most {schema['maxProperties']} pairs"
    if "pattern" in schema:
        return "id" if schema["pattern"] == f"^{ID_PATTERN.pattern}$" else "month, such as 2026-04"
    return f"text of at most {schema['maxLength']} characters"
