"""Events: what happened at the platform, and the body that every endpoint receives."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from streams.core.errors import FieldError, Invalid, InvalidRecord
from streams.core.events.event_data import EVENT_TYPES, data_errors, is_storable, metadata_problem
from streams.core.events.trace import TRACE_PARENT_FORM, is_trace_parent
from streams.core.ids import ID_DESCRIPTION, is_id
from streams.core.limits import MAX_EXACT_INTEGER, MAX_REQUEST_FIELDS, MAX_SEQUENCE, METADATA_HASH_BYTES
from streams.core.times import TIME_DESCRIPTION, format_time, parse_time

# Clocks differ, but an event of a future month would belong to no bill.
MAX_TIME_AHEAD = timedelta(days=1)
_AHEAD_MESSAGE = "must not be more than a day ahead: check the clock that it comes from"

# Only `metadata` is a mapping.
Data = Mapping[str, str | int | float | Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one account. `occurred_at` is aware; `data` has the payload's camelCase names and no None."""

    id: str
    type: str
    account_id: str
    occurred_at: datetime
    data: Data = field(repr=False)
    trace_parent: str | None = None
    test: bool = False

    @property
    def package_id(self) -> str | None:
        return self.text("packageId")

    @property
    def dispatch_id(self) -> str | None:
        return self.text("dispatchId")

    def text(self, name: str) -> str | None:
        """A string field of `data`; None when it is absent."""
        value = self.data.get(name)
        return value if isinstance(value, str) else None


def check_event(event: Event, now: datetime) -> Event:
    """Check an event and return it. Raises `Invalid`, which names each wrong field.

    `now` is the time of its record, or the current time if it has no record yet.
    """
    errors = [
        FieldError(name, f"must be an id: {ID_DESCRIPTION}")
        for name, value in (("id", event.id), ("accountId", event.account_id))
        if not is_id(value)
    ]
    if event.occurred_at.tzinfo is None:
        errors.append(FieldError("createdAt", TIME_DESCRIPTION))
    elif event.occurred_at - now > MAX_TIME_AHEAD:
        errors.append(FieldError("createdAt", _AHEAD_MESSAGE))
    if event.trace_parent is not None and not is_trace_parent(event.trace_parent):
        errors.append(FieldError("traceParent", f"must be a W3C traceparent: {TRACE_PARENT_FORM}"))
    if event.type in EVENT_TYPES:
        errors += data_errors(event.type, event.data)
    else:
        errors.append(FieldError("type", "must be one of: " + ", ".join(EVENT_TYPES)))
    if errors:
        raise Invalid(*errors)
    return event


def event_and_body(value: object, appended_at: datetime) -> tuple[Event, bytes]:
    """The checked event in a record's value, with its body. Raises `InvalidRecord` and `Invalid`."""
    if not isinstance(value, Event):
        raise InvalidRecord(f"a {type(value).__name__.lower()} is not an event")
    if value.type not in EVENT_TYPES:
        raise InvalidRecord(f"unknown event type {value.type!r}; a newer version may know it")
    return value, render(check_event(value, appended_at))


class EventSubjects(NamedTuple):
    """The ids in an event that people search by, each None if absent, and a hash of each pair of its metadata."""

    session_id: str | None = None
    learner_id: str | None = None
    package_id: str | None = None
    dispatch_id: str | None = None
    metadata: tuple[bytes, ...] = ()

    @property
    def is_empty(self) -> bool:
        return self == _NO_SUBJECTS


_NO_SUBJECTS = EventSubjects()


def parse_pair(text: str) -> tuple[str, str]:
    """A pair of `metadata` to search by, written as `name=text`. Raises `Invalid`, which names `metadata`."""
    name, separator, value = text.partition("=")
    if not separator or metadata_problem({name: value}):
        raise Invalid(FieldError("metadata", "must be a pair such as department=sales"))
    return name, value


def metadata_hash(name: str, text: str) -> bytes:
    """The 16-byte hash that a pair of `metadata` is found by."""
    return sha256(f"{name}\0{text}".encode()).digest()[:METADATA_HASH_BYTES]


def event_hash(body: bytes) -> bytes:
    """The SHA-256 hash of an event's body as `render` makes it."""
    return sha256(body).digest()


def subjects_of_event(event: Event) -> EventSubjects:
    """The ids in a checked event."""
    session, learner, package, dispatch = (event.text(name) for name in _SUBJECT_FIELDS)
    # No database stores the character NUL.
    learner = learner if learner is not None and is_storable(learner) else None
    return EventSubjects(session, learner, package, dispatch, _metadata_hashes(event.data.get("metadata")))


def _metadata_hashes(metadata: Any) -> tuple[bytes, ...]:
    pairs = metadata.items() if isinstance(metadata, Mapping) else ()
    return tuple(sorted({metadata_hash(name, text) for name, text in pairs}))


_SUBJECT_FIELDS = ("sessionId", "learnerId", "packageId", "dispatchId")


# -- JSON in and out -------------------------------------------------------------------------------------------


_EVENT_FIELDS = {"id", "type", "createdAt", "accountId", "data", "traceParent"}
_TEXT_FIELDS = {"type", "traceParent"}
_REQUIRED_FIELDS = {"type", "createdAt", "accountId", "data"}
_UNKNOWN_TIME = datetime.min.replace(tzinfo=UTC)


def with_trace_parent(event: Event, trace_parent: str | None) -> Event:
    """The event with this `traceparent`, unless it has one of its own."""
    return event if trace_parent is None or event.trace_parent else replace(event, trace_parent=trace_parent)


def parse_event(fields: Mapping[str, Any], *, default_id: str, now: datetime) -> Event:
    """Parse an event from the payload's JSON plus `accountId`; without an `id` it gets `default_id`.

    Raises `Invalid`, which names every wrong field.
    """
    _check_number_of_fields(fields)
    errors = [FieldError(name, "is not a field of an event") for name in fields if name not in _EVENT_FIELDS]
    occurred_at, data, trace_parent = (fields.get(name) for name in ("createdAt", "data", "traceParent"))
    moment = parse_time(occurred_at)
    if moment is None:
        errors.append(FieldError("createdAt", TIME_DESCRIPTION))
    event = Event(
        id=fields.get("id", default_id),
        type=str(fields.get("type", "")),
        account_id=fields.get("accountId", ""),
        occurred_at=moment or _UNKNOWN_TIME,
        data=data if isinstance(data, Mapping) else {},
        trace_parent=None if trace_parent is None else str(trace_parent),
    )
    try:
        check_event(event, now)
    except Invalid as error:
        errors += error.errors
    if not isinstance(data, Mapping):
        errors = [item for item in errors if not item.field.startswith("data.")]
        errors.append(FieldError("data", "must be an object"))
    if errors:
        raise Invalid(*(_simplify_error(item, fields) for item in errors))
    return event


def _check_number_of_fields(fields: Mapping[str, Any]) -> None:
    """Raise `Invalid` for too many fields: one error, because one for each field would cost too much."""
    for name, mapping in (("body", fields), ("data", fields.get("data"))):
        if isinstance(mapping, Mapping) and len(mapping) > MAX_REQUEST_FIELDS:
            raise Invalid(FieldError(name, f"must have at most {MAX_REQUEST_FIELDS} fields"))


def _simplify_error(error: FieldError, fields: Mapping[str, Any]) -> FieldError:
    """The error, or a simpler one where a field is missing or is not a text."""
    if error.field in _REQUIRED_FIELDS - fields.keys():
        return FieldError(error.field, "is required")
    is_wrong_type = error.field in _TEXT_FIELDS and not isinstance(fields.get(error.field), str | None)
    return FieldError(error.field, "must be a text") if is_wrong_type else error


def partition_key(event: Event) -> str:
    """The key of a record on `session-events`: session id, package id or account id. It keeps a session's order."""
    return event.text("sessionId") or event.package_id or event.account_id


def render(event: Event) -> bytes:
    """Render the body: UTF-8 JSON, camelCase, whole numbers as integers, absent values left out.

    Rendered once for each event. What a webhook gets is made of these bytes.
    """
    payload: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "createdAt": format_time(event.occurred_at),
    }
    if event.test:
        payload["test"] = True
    payload["data"] = {name: _to_json_value(value) for name, value in event.data.items() if value != {}}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def sequence_of(body: bytes) -> int | None:
    """The `sequence` of the event in a body; None without one."""
    try:
        sequence = json.loads(body)["data"]["sequence"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return sequence if type(sequence) is int and 0 <= sequence <= MAX_SEQUENCE else None


def _to_json_value(value: str | float | Mapping[str, str]) -> str | int | float | Mapping[str, str]:
    if isinstance(value, Mapping):
        # An Avro map has no order. Sorted, the same event has the same body each time it is published.
        return dict(sorted(value.items()))
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_EXACT_INTEGER else value
