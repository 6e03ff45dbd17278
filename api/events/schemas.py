"""JSON Schemas of events in requests, made from the limits that the code checks."""

from typing import Any

from streams.core.events.event_data import EVENT_DESCRIPTIONS, EVENT_TYPES, data_schema
from streams.core.events.trace import TRACE_PARENT_PATTERN
from streams.core.ids import ID_PATTERN
from streams.core.limits import MAX_EVENTS_PER_REQUEST

EVENT = "#/components/schemas/NewEvent"
BATCH = "#/components/schemas/NewEvents"
_HEADERS = {
    "webhook-id": "The event's `id`.",
    "webhook-timestamp": "When this attempt was made, in Unix seconds.",
    "webhook-signature": "The signatures of Standard Webhooks.",
    "webhook-attempt": "The number of this attempt, from 1.",
}
_ID = {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"}


def event_schemas() -> dict[str, Any]:
    """The components of the OpenAPI document, by name."""
    data = {_data_name(name): {**data_schema(name), "title": _data_name(name)} for name in EVENT_TYPES}
    for schema in data.values():
        # Text says that one of two fields is required: few generators understand it in a schema.
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


def webhook_requests() -> dict[str, Any]:
    """The `webhooks` of the OpenAPI document: the request that an endpoint gets for each event type."""
    return {name: {"post": _webhook_request(name)} for name in EVENT_TYPES}


def _webhook_request(event_type: str) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["id", "type", "createdAt", "data"],
        "properties": {
            "id": {**_ID, "description": "The same for every attempt, and for every webhook."},
            "type": {"const": event_type},
            "createdAt": {"type": "string", "format": "date-time", "description": "When it happened."},
            "test": {"const": True, "description": "Only in test events."},
            "data": {"$ref": f"#/components/schemas/{_data_name(event_type)}"},
        },
    }
    return {
        "operationId": _data_name(event_type).removesuffix("Data"),
        "summary": EVENT_DESCRIPTIONS[event_type],
        "parameters": [
            {"name": name, "in": "header", "required": True, "description": meaning, "schema": {"type": "string"}}
            for name, meaning in _HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "2XX": {"description": "The event is delivered."},
            "default": {"description": "The attempt failed; retries follow. 410 pauses the webhook."},
        },
    }


def _data_name(event_type: str) -> str:
    """`SessionCompletedData` for `session.completed`."""
    return "".join(part.capitalize() for part in event_type.split(".")) + "Data"
