"""The model of a webhook's filter. Its rules are in `streams/core/events/event_filter.py`; here is its schema."""

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from streams.core.events.event_filter import METADATA_FIELD, OPERATORS, Operator
from streams.core.limits import (
    MAX_FILTER_BYTES,
    MAX_FILTER_CONDITIONS,
    MAX_FILTER_VALUES,
    MAX_METADATA_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
)

EXAMPLE = {"successStatus": "passed", "scoreScaled": {"gte": 0.8}, "metadata.department": {"in": ["sales", "hr"]}}

_TEXT: dict[str, Any] = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_NUMBER: dict[str, Any] = {"type": "number"}
_VALUE: dict[str, Any] = {"anyOf": [_TEXT, _NUMBER]}
_OPERATORS: dict[str, Any] = {
    Operator.EQ: _VALUE,
    Operator.IN: {"type": "array", "minItems": 1, "maxItems": MAX_FILTER_VALUES, "items": _VALUE},
    Operator.GTE: _NUMBER,
    Operator.LTE: _NUMBER,
    Operator.EXISTS: {"type": "boolean"},
}
_CONDITIONS: dict[str, Any] = {
    "anyOf": [_TEXT, _NUMBER, {"type": "object", "properties": _OPERATORS, "additionalProperties": False}]
}
FilterObject = Annotated[
    dict[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MAX_FILTER_CONDITIONS,
            "propertyNames": {"maxLength": len(METADATA_FIELD) + 1 + MAX_METADATA_NAME_CHARACTERS},
            "additionalProperties": _CONDITIONS,
        }
    ),
    Field(
        examples=[EXAMPLE],
        description=f"Conditions on `data`, by field or `{METADATA_FIELD}.<name>`: a value, or an object of "
        f"{OPERATORS}. "
        'All must hold; an event without the field does not match, except by `"exists": false`. '
        f"At most {MAX_FILTER_BYTES} bytes as JSON without spaces.",
    ),
]
