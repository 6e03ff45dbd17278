"""The event types, their fields, and the rules for each field."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from streams.core.errors import FieldError
from streams.core.ids import ID_DESCRIPTION, ID_PATTERN, is_id
from streams.core.limits import (
    MAX_DURATION_CHARACTERS,
    MAX_EXACT_INTEGER,
    MAX_METADATA_NAME_CHARACTERS,
    MAX_METADATA_PAIRS,
    MAX_METADATA_VALUE_CHARACTERS,
    MAX_SEQUENCE,
    MAX_TEXT_CHARACTERS,
    MAX_TIME_CHARACTERS,
)
from streams.core.times import TIME_DESCRIPTION, parse_time

_DURATION = re.compile(
    r"P(?=.)(\d+(\.\d+)?Y)?(\d+(\.\d+)?M)?(\d+(\.\d+)?W)?(\d+(\.\d+)?D)?"
    r"(T(?=\d)(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?(\d+(\.\d+)?S)?)?",
    re.ASCII,
)
_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f]")
_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)

NUMBER_DESCRIPTION = "a number from -2^53 to 2^53"

Check = Callable[[Any], str | None]


def _id_problem(value: Any) -> str | None:
    return None if is_id(value) else f"must be an id: {ID_DESCRIPTION}"


def _text_problem(value: Any) -> str | None:
    is_valid = isinstance(value, str) and 0 < len(value) <= MAX_TEXT_CHARACTERS and is_storable(value)
    return None if is_valid else f"must be a text of 1 to {MAX_TEXT_CHARACTERS} characters, without NUL"


def is_storable(text: str) -> bool:
    """Whether every database stores this text: valid Unicode without NUL."""
    return is_unicode(text) and "\0" not in text


def is_unicode(value: str) -> bool:
    """Whether a text can be encoded as UTF-8."""
    # JSON can contain half of a surrogate pair, which UTF-8 cannot.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _number_problem(value: Any) -> str | None:
    is_valid = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_EXACT_INTEGER
    return None if is_valid else f"must be {NUMBER_DESCRIPTION}"


def _scaled_problem(value: Any) -> str | None:
    return _number_problem(value) or (None if -1 <= value <= 1 else "must be between -1 and 1")


def _integer_problem(value: Any) -> str | None:
    is_valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return None if is_valid else "must be a whole number, 0 or more"


def _duration_problem(value: Any) -> str | None:
    if isinstance(value, str) and len(value) > MAX_DURATION_CHARACTERS:
        return f"must have at most {MAX_DURATION_CHARACTERS} characters"
    is_valid = isinstance(value, str) and _DURATION.fullmatch(value) is not None
    return None if is_valid else "must be an ISO 8601 duration such as PT12M34S"


def _period_problem(value: Any) -> str | None:
    is_valid = isinstance(value, str) and _PERIOD.fullmatch(value) is not None
    return None if is_valid else "must be a month such as 2026-04"


def _time_problem(value: Any) -> str | None:
    return None if parse_time(value) and len(value) <= MAX_TIME_CHARACTERS else TIME_DESCRIPTION


def _sequence_problem(value: Any) -> str | None:
    is_valid = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SEQUENCE
    return None if is_valid else f"must be a whole number from 0 to {MAX_SEQUENCE}"


def metadata_problem(value: Any) -> str | None:
    """What is wrong with an event's `metadata`; None if nothing is."""
    if not isinstance(value, Mapping):
        return "must be an object of texts"
    if len(value) > MAX_METADATA_PAIRS:
        return f"must have at most {MAX_METADATA_PAIRS} pairs"
    for name, text in value.items():
        if not (isinstance(name, str) and 0 < len(name) <= MAX_METADATA_NAME_CHARACTERS and _is_plain(name)):
            return f"must have names of 1 to {MAX_METADATA_NAME_CHARACTERS} characters, without control characters"
        if not (isinstance(text, str) and len(text) <= MAX_METADATA_VALUE_CHARACTERS and _is_plain(text)):
            limit = f"a text of at most {MAX_METADATA_VALUE_CHARACTERS} characters, without control characters"
            return f"{json.dumps(name)} must be {limit}"
    return None


def _is_plain(text: str) -> bool:
    # A control character takes six bytes in JSON: the longest metadata would not fit into a body.
    return is_unicode(text) and not _CONTROL_CHARACTER.search(text)


@dataclass(frozen=True, slots=True)
class FieldType:
    """The type of a field. `check` returns what is wrong with a value, or None; `schema` is its JSON Schema."""

    check: Check
    schema: Mapping[str, Any]

    @property
    def is_number(self) -> bool:
        """Whether values can be compared by their size."""
        return self.schema.get("type") in ("number", "integer") or any(
            isinstance(value, int) for value in self.schema.get("enum", ())
        )


def _enum(*values: str | int) -> FieldType:
    message = "must be one of: " + ", ".join(map(str, values))
    return FieldType(
        lambda value: None if type(value) in (str, int) and value in values else message, {"enum": list(values)}
    )


_ID = FieldType(_id_problem, {"type": "string", "pattern": f"^{ID_PATTERN.pattern}$"})
_TEXT = FieldType(_text_problem, {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARACTERS})
_NUMBER = FieldType(_number_problem, {"type": "number", "minimum": -MAX_EXACT_INTEGER, "maximum": MAX_EXACT_INTEGER})
_SCALED = FieldType(_scaled_problem, {"type": "number", "minimum": -1, "maximum": 1})
_INTEGER = FieldType(_integer_problem, {"type": "integer", "minimum": 0, "maximum": 2**63 - 1})
_LENGTH = FieldType(_duration_problem, {"type": "string", "format": "duration", "maxLength": MAX_DURATION_CHARACTERS})
_MONTH = FieldType(_period_problem, {"type": "string", "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$"})
_MOMENT = FieldType(_time_problem, {"type": "string", "format": "date-time", "maxLength": MAX_TIME_CHARACTERS})
_COUNTER = FieldType(_sequence_problem, {"type": "integer", "minimum": 0, "maximum": MAX_SEQUENCE})
_PAIRS = FieldType(
    metadata_problem,
    {
        "type": "object",
        "maxProperties": MAX_METADATA_PAIRS,
        "propertyNames": {"minLength": 1, "maxLength": MAX_METADATA_NAME_CHARACTERS},
        "additionalProperties": {"type": "string", "maxLength": MAX_METADATA_VALUE_CHARACTERS},
    },
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event type's `data`."""

    kind: FieldType
    is_required: bool = True


_METADATA_FIELD = {"metadata": Field(_PAIRS, is_required=False)}
_SESSION_FIELDS = {
    "sessionId": Field(_ID),
    "packageId": Field(_ID),
    "dispatchId": Field(_ID, is_required=False),
    "learnerId": Field(_TEXT),
}
# Every event of a session ends with these.
_LAST_SESSION_FIELDS = {"sequence": Field(_COUNTER, is_required=False), **_METADATA_FIELD}
_SCORE_FIELDS = {
    "scoreRaw": Field(_NUMBER, is_required=False),
    "scoreMin": Field(_NUMBER, is_required=False),
    "scoreMax": Field(_NUMBER, is_required=False),
    "scoreScaled": Field(_SCALED, is_required=False),
}
_COMPLETION_STATUS = _enum("completed", "incomplete", "not attempted", "unknown")
_SUCCESS_STATUS = _enum("passed", "failed", "unknown")
_STATUS_FIELDS = {"completionStatus": Field(_COMPLETION_STATUS), "successStatus": Field(_SUCCESS_STATUS)}
_PREVIOUS_STATUS_FIELDS = {
    "previousCompletionStatus": Field(_COMPLETION_STATUS, is_required=False),
    "previousSuccessStatus": Field(_SUCCESS_STATUS, is_required=False),
}
# Of every event about a webhook itself. A pull webhook has no URL.
_WEBHOOK_FIELDS = {"webhookId": Field(_ID), "url": Field(_TEXT, is_required=False)}
# Without the endpoint's message: it may name a learner, whose erasure would not find it here.
_LAST_ATTEMPT = {"lastStatus": Field(_INTEGER, is_required=False)}
EVENT_TYPE_FORM = r"[a-z.]{1,64}"
EVENT_TYPES: dict[str, dict[str, Field]] = {
    "session.launched": {**_SESSION_FIELDS, **_LAST_SESSION_FIELDS},
    "session.completed": {
        **_SESSION_FIELDS,
        **_STATUS_FIELDS,
        **_SCORE_FIELDS,
        "totalTime": Field(_LENGTH),
        **_PREVIOUS_STATUS_FIELDS,
        **_LAST_SESSION_FIELDS,
    },
    "session.scored": {**_SESSION_FIELDS, **_SCORE_FIELDS, **_LAST_SESSION_FIELDS},
    "session.ended": {
        **_SESSION_FIELDS,
        "reported": Field(_enum("nothing", "partly", "completed")),
        **_STATUS_FIELDS,
        **_SCORE_FIELDS,
        "totalTime": Field(_LENGTH, is_required=False),
        "lastCommitAt": Field(_MOMENT, is_required=False),
        **_LAST_SESSION_FIELDS,
    },
    "session.reset": {**_SESSION_FIELDS, **_STATUS_FIELDS, **_PREVIOUS_STATUS_FIELDS, **_LAST_SESSION_FIELDS},
    "package.updated": {
        "packageId": Field(_ID),
        "version": Field(_TEXT),
        "title": Field(_TEXT, is_required=False),
        **_METADATA_FIELD,
    },
    "usage.threshold": {
        "period": Field(_MONTH),
        "launches": Field(_INTEGER),
        "limit": Field(_INTEGER),
        "thresholdPercent": Field(_enum(80, 100)),
    },
    "webhook.failing": {**_WEBHOOK_FIELDS, "failures": Field(_INTEGER), "since": Field(_MOMENT), **_LAST_ATTEMPT},
    "webhook.paused": {
        **_WEBHOOK_FIELDS,
        "reason": Field(_enum("failures", "gone")),
        "pausedHours": Field(_enum(0, 24)),
        "failures": Field(_INTEGER, is_required=False),
        "pausedAt": Field(_MOMENT),
        "failingSince": Field(_MOMENT, is_required=False),
        **_LAST_ATTEMPT,
    },
    "webhook.recovered": {**_WEBHOOK_FIELDS, "since": Field(_MOMENT)},
    "webhook.deadletters": {**_WEBHOOK_FIELDS, "count": Field(_INTEGER), "since": Field(_MOMENT)},
    "webhook.secret.ending": {**_WEBHOOK_FIELDS, "until": Field(_MOMENT)},
    "webhook.certificate.ending": {**_WEBHOOK_FIELDS, "until": Field(_MOMENT)},
}
FIELD_NAMES = frozenset(name for fields in EVENT_TYPES.values() for name in fields)
# Events about a webhook itself, which this system publishes. A webhook never gets one about itself.
WEBHOOK_TYPES = frozenset(name for name in EVENT_TYPES if name.startswith("webhook."))
# A webhook gets these only if it names them: a new type must not break a receiver that takes all types.
OPT_IN_TYPES = frozenset({"session.ended", "session.reset"}) | WEBHOOK_TYPES


def data_errors(event_type: str, data: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with the `data` of an event of a known type, one error for each field."""
    fields = EVENT_TYPES[event_type]
    errors = [FieldError(f"data.{name}", f"is not a field of {event_type}") for name in data if name not in fields]
    for name, field in fields.items():
        if name not in data:
            if field.is_required:
                errors.append(FieldError(f"data.{name}", f"is required for {event_type}"))
        elif data[name] is None and not field.is_required:
            errors.append(FieldError(f"data.{name}", "must not be null: leave it out"))
        elif problem := field.kind.check(data[name]):
            errors.append(FieldError(f"data.{name}", problem))
    if event_type == "session.scored" and not {"scoreRaw", "scoreScaled"} & data.keys():
        errors.append(FieldError("data.scoreRaw", "scoreRaw or scoreScaled is required for session.scored"))
    return errors


# When each type is sent.
EVENT_DESCRIPTIONS = {
    "session.launched": "A learner opened a SCORM session.",
    "session.completed": (
        "Completion became `completed`, or success became `passed`: each of the two once a session, both at the same "
        "time as one event. A session that was completed before it was passed has two."
    ),
    "session.scored": "A score was recorded; it has a raw or a scaled value.",
    "session.ended": (
        "A session that a player commits to was closed, or its commit URL ended. `reported` says how much is known. "
        "Only webhooks that name this type get it."
    ),
    "session.reset": ("A course took back that it was completed or passed. Only webhooks that name this type get it."),
    "package.updated": "A new version of a package was uploaded.",
    "usage.threshold": "The account's launches in a calendar month of UTC reached 80 or 100 percent of its plan limit.",
    "webhook.failing": "Another webhook's requests have failed for five minutes.",
    "webhook.paused": (
        "Another webhook was paused because its endpoint failed or responded with 410 (`pausedHours` 0), or has been "
        "paused for a day (24)."
    ),
    "webhook.recovered": "Another webhook delivers again, after it was failing or paused.",
    "webhook.deadletters": "Another webhook has had dead letters for a day.",
    "webhook.secret.ending": "The old signing secret of another webhook ends within six hours.",
    "webhook.certificate.ending": "The certificate of another webhook's endpoint ends within 14 days.",
}


def data_schema(event_type: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of this event type's `data`."""
    fields = EVENT_TYPES[event_type]
    schema: dict[str, Any] = {
        "description": EVENT_DESCRIPTIONS[event_type],
        "type": "object",
        "properties": {name: dict(field.kind.schema) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.is_required],
        "additionalProperties": False,
    }
    if event_type == "session.scored":
        schema["anyOf"] = [{"required": ["scoreRaw"]}, {"required": ["scoreScaled"]}]
    return schema
