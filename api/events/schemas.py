"""JSON Schemas of events in requests, made from the limits that the code checks."""

from typing import Any

from streams.core.events.event_data import EVENT_TYPES, data_schema
from streams.core.events.trace import TRACE_PARENT_PATTERN
from streams.core.ids import ID_PATTERN
from streams.core.limits import MAX_EVENTS_PER_REQUEST

EVENT = "#/components/schemas/NewEvent"
BATCH = "#/components/schemas/NewEvents"
_ID = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"}


def event_schemas() -> dict[str, Any]:
    """The components of the OpenAPI document, by name."""
    data = {_data_name(name): {**data_schema(name), "title": _data_name(name)} for name in EVENT_TYPES}
    for schema in data.values():
        # That one of two fields is required is said in words: few generators understand it in a schema.
        if schema.pop("anyOf", None):
            schema["description"] += " scoreRaw or scoreScaled is required."
    event = {
        "title": "NewEvent",
        "description": "An event to publish. Each type has its own `data`: see GET /v1/event-types.",
        "type": "object",
        "additionalProperties": False,
        "required": ["type", "createdAt", "data"],
        "properties": {
            "id": {
                **_ID,
                "description": "Your own id, the same if you publish the event again. Without one, an id is made.",
            },
            "type": {"type": "string", "enum": list(EVENT_TYPES)},
            "createdAt": {"type": "string", "format": "date-time", "description": "When it happened (RFC 3339)."},
            "accountId": {**_ID, "description": "Required with an operator's key. Otherwise it is the key's account."},
            "traceParent": {"type": "string", "pattern": f"^{TRACE_PARENT_PATTERN}$"},
            "data": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in data]},
        },
    }
    batch = {
        "title": "NewEvents",
        "description": "Events to publish together: all are accepted or none.",
        "type": "object",
        "additionalProperties": False,
        "required": ["events"],
        "properties": {
            "events": {"type": "array", "minItems": 1, "maxItems": MAX_EVENTS_PER_REQUEST, "items": {"$ref": EVENT}}
        },
    }
    return {"NewEvent": event, "NewEvents": batch, **data}


def _data_name(event_type: str) -> str:
    """`SessionCompletedData` for `session.completed`."""
    return "".join(part.capitalize() for part in event_type.split(".")) + "Data"
