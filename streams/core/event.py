"""Events: what happened at the platform, and the body that every endpoint receives."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from streams.core.errors import FieldError, Invalid, InvalidRecord
from streams.core.event_data import EVENT_TYPES, data_errors, is_storable
from streams.core.ids import ID_WORDS, is_id
from streams.core.limits import REQUEST_FIELDS, TEXT_CHARACTERS
from streams.core.trace import TRACE_PARENT_FORM, is_trace_parent

_RFC_3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt]((?:[01]\d|2[0-3]):[0-5]\d):([0-5]\d|60)(\.\d+)?([Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_TIME_WORDS = "must be a time with a zone such as 2026-04-10T14:32:00Z"
# Clocks differ; but an event of a month to come would belong to no bill.
MAX_AHEAD = timedelta(days=1)
_AHEAD_WORDS = "must not be more than a day ahead: check the clock that it comes from"

Data = Mapping[str, str | int | float]


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
    """Returns the event. Raises `Invalid`, which names each wrong field.

    `now` is the time of its record, or the present one where it has no record yet.
    """
    errors = [
        FieldError(name, f"must be an id: {ID_WORDS}")
        for name, value in (("id", event.id), ("accountId", event.account_id))
        if not is_id(value)
    ]
    if event.occurred_at.tzinfo is None:
        errors.append(FieldError("createdAt", _TIME_WORDS))
    elif event.occurred_at - now > MAX_AHEAD:
        errors.append(FieldError("createdAt", _AHEAD_WORDS))
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
    """The event in a record's value, checked, with its body. Raises `InvalidRecord` and `Invalid`."""
    if not isinstance(value, Event):
        raise InvalidRecord(f"a {type(value).__name__.lower()} is not an event")
    if value.type not in EVENT_TYPES:
        raise InvalidRecord(f"unknown event type {value.type!r}; a newer version may know it")
    return value, render(check_event(value, appended_at))


class EventSubjects(NamedTuple):
    """The ids in an event that people search by; None where it has none."""

    session_id: str | None = None
    learner_id: str | None = None
    package_id: str | None = None
    dispatch_id: str | None = None


def subjects_of(body: bytes) -> EventSubjects:
    """The ids in a rendered body; all None when it is not an event."""
    try:
        data = json.loads(body)["data"]
        session, learner, package, dispatch = (data.get(name) for name in _SUBJECTS)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return EventSubjects()
    is_learner = isinstance(learner, str) and is_storable(learner) and len(learner) <= TEXT_CHARACTERS
    ids = [value if isinstance(value, str) and is_id(value) else None for value in (session, package, dispatch)]
    return EventSubjects(ids[0], learner if is_learner else None, ids[1], ids[2])


_SUBJECTS = ("sessionId", "learnerId", "packageId", "dispatchId")


# -- JSON in and out -------------------------------------------------------------------------------------------


def parse_time(text: Any) -> datetime | None:
    """Parse an RFC 3339 time (section 5.6) to an aware UTC time; None when it is anything else.

    Digits beyond microseconds are dropped. A leap second, 23:59:60 in UTC, becomes the second after it.
    """
    found = _RFC_3339.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    day, minute, second, fraction, offset = found.groups("")
    is_leap = second == "60"
    try:
        read = datetime.fromisoformat(f"{day}T{minute}:{'59' if is_leap else second}{fraction[:7]}{offset.upper()}")
        moment = read.astimezone(UTC)
        if not is_leap:
            return moment
        ends_day = (moment.hour, moment.minute) == (23, 59)
        return moment.replace(microsecond=0) + timedelta(seconds=1) if ends_day else None
    except (ValueError, OverflowError):
        return None


_FIELDS = {"id", "type", "createdAt", "accountId", "data", "traceParent"}
_TEXTS = {"type", "traceParent"}
_REQUIRED = {"type", "createdAt", "accountId", "data"}
_NEVER = datetime.min.replace(tzinfo=UTC)


def traced(event: Event, trace_parent: str | None) -> Event:
    """The event with this `traceparent`, unless it has one of its own."""
    return event if trace_parent is None or event.trace_parent else replace(event, trace_parent=trace_parent)


def parse_event(fields: Mapping[str, Any], *, default_id: str, now: datetime) -> Event:
    """Parse an event from the payload's JSON plus `accountId`; without an `id` it gets `default_id`.

    Raises `Invalid`, which names every wrong field.
    """
    _check_number_of_fields(fields)
    errors = [FieldError(name, "is not a field of an event") for name in fields if name not in _FIELDS]
    occurred_at, data, trace_parent = (fields.get(name) for name in ("createdAt", "data", "traceParent"))
    moment = parse_time(occurred_at)
    if moment is None:
        errors.append(FieldError("createdAt", _TIME_WORDS))
    event = Event(
        id=fields.get("id", default_id),
        type=str(fields.get("type", "")),
        account_id=fields.get("accountId", ""),
        occurred_at=moment or _NEVER,
        data=data if isinstance(data, Mapping) else {},
        trace_parent=None if trace_parent is None else str(trace_parent),
    )
    try:
        check_event(event, now)
    except Invalid as wrong:
        errors += wrong.errors
    if not isinstance(data, Mapping):
        errors = [error for error in errors if not error.field.startswith("data.")]
        errors.append(FieldError("data", "must be an object"))
    if errors:
        raise Invalid(*(_for_form(error, fields) for error in errors))
    return event


def _check_number_of_fields(fields: Mapping[str, Any]) -> None:
    """Raises `Invalid` with one error: one for each field would cost too much."""
    for name, found in (("body", fields), ("data", fields.get("data"))):
        if isinstance(found, Mapping) and len(found) > REQUEST_FIELDS:
            raise Invalid(FieldError(name, f"must have at most {REQUEST_FIELDS} fields"))


def _for_form(error: FieldError, fields: Mapping[str, Any]) -> FieldError:
    """The error, or a simpler one where a field is missing or is not a text."""
    if error.field in _REQUIRED - fields.keys():
        return FieldError(error.field, "is required")
    is_wrong_type = error.field in _TEXTS and not isinstance(fields.get(error.field), str | None)
    return FieldError(error.field, "must be a text") if is_wrong_type else error


def partition_key(event: Event) -> str:
    """The key of a record on `session-events`: session id, package id or account id. It keeps a session's order."""
    return event.text("sessionId") or event.package_id or event.account_id


def format_time(moment: datetime) -> str:
    """Format a time by RFC 3339 in UTC, with milliseconds only if there are any."""
    spec = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def render(event: Event) -> bytes:
    """Render the body: UTF-8 JSON, camelCase, whole numbers as integers, absent values left out.

    Rendered once for each event, so that every webhook and every attempt sends the same bytes.
    """
    payload: dict[str, Any] = {
        "id": event.id,
        "type": event.type,
        "createdAt": format_time(event.occurred_at),
    }
    if event.test:
        payload["test"] = True
    payload["data"] = {name: _plain(value) for name, value in event.data.items()}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: str | float) -> str | int | float:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
