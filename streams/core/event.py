"""An event: what happened at the platform, and the body that every receiver gets."""

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from streams.core.errors import FieldError, Invalid
from streams.core.ids import ID_WORDS, is_id

MAX_BODY_BYTES = 256 * 1024

_DURATION = re.compile(
    r"P(?=.)(\d+(\.\d+)?Y)?(\d+(\.\d+)?M)?(\d+(\.\d+)?W)?(\d+(\.\d+)?D)?"
    r"(T(?=\d)(\d+(\.\d+)?H)?(\d+(\.\d+)?M)?(\d+(\.\d+)?S)?)?",
    re.ASCII,
)
_PERIOD = re.compile(r"\d{4}-(0[1-9]|1[0-2])", re.ASCII)

_TRACE_PARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_TIME_WORDS = "must be a time with a zone such as 2026-04-10T14:32:00Z"

Data = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Event:
    """One event of one account; `occurred_at` is aware, `data` has the payload's camelCase names, no `None`."""

    id: str
    type: str
    account_id: str
    occurred_at: datetime
    data: Data
    trace_parent: str | None = None
    test: bool = False

    @property
    def package_id(self) -> str | None:
        return self.text("packageId")

    @property
    def dispatch_id(self) -> str | None:
        return self.text("dispatchId")

    def text(self, name: str) -> str | None:
        """A field of `data` that is a text, None when it is absent."""
        value = self.data.get(name)
        return value if isinstance(value, str) else None


# -- what each type carries -----------------------------------------------------------

Check = Callable[[Any], str | None]


def _id(value: Any) -> str | None:
    return None if is_id(value) else f"must be an id: {ID_WORDS}"


def _text(value: Any) -> str | None:
    ok = isinstance(value, str) and 0 < len(value) <= 1024 and _is_unicode(value)
    return None if ok else "must be a text of 1 to 1024 characters"


def _is_unicode(value: str) -> bool:
    # JSON can spell half of a surrogate pair, which no UTF-8 can carry.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _number(value: Any) -> str | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    return None if ok else "must be a finite number"


def _scaled(value: Any) -> str | None:
    return _number(value) or (None if -1 <= value <= 1 else "must be between -1 and 1")


def _whole(value: Any) -> str | None:
    ok = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
    return None if ok else "must be a whole number, 0 or more"


def _duration(value: Any) -> str | None:
    ok = isinstance(value, str) and _DURATION.fullmatch(value) is not None
    return None if ok else "must be an ISO 8601 duration such as PT12M34S"


def _period(value: Any) -> str | None:
    ok = isinstance(value, str) and _PERIOD.fullmatch(value) is not None
    return None if ok else "must be a month such as 2026-04"


def _one_of(*values: str | int) -> Check:
    words = "must be one of: " + ", ".join(map(str, values))
    return lambda value: None if type(value) in (str, int) and value in values else words


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event type's `data`; `check` returns what is wrong with a value, or None."""

    check: Check
    required: bool = True


_SESSION = {
    "sessionId": Field(_id),
    "packageId": Field(_id),
    "dispatchId": Field(_id, required=False),
    "learnerId": Field(_text),
}
_SCORE = {
    "scoreRaw": Field(_number, required=False),
    "scoreMin": Field(_number, required=False),
    "scoreMax": Field(_number, required=False),
    "scoreScaled": Field(_scaled, required=False),
}
EVENT_TYPES: dict[str, dict[str, Field]] = {
    "session.launched": _SESSION,
    "session.completed": {
        **_SESSION,
        "completionStatus": Field(_one_of("completed", "incomplete", "not attempted", "unknown")),
        "successStatus": Field(_one_of("passed", "failed", "unknown")),
        **_SCORE,
        "totalTime": Field(_duration),
    },
    "session.scored": {**_SESSION, **_SCORE},
    "package.updated": {"packageId": Field(_id), "version": Field(_text), "title": Field(_text, required=False)},
    "usage.threshold": {
        "period": Field(_period),
        "launches": Field(_whole),
        "limit": Field(_whole),
        "thresholdPercent": Field(_one_of(80, 100)),
    },
}


def data_errors(event_type: str, data: Mapping[str, Any]) -> list[FieldError]:
    """What is wrong with the `data` of an event of a known type, field by field."""
    fields = EVENT_TYPES[event_type]
    errors = [FieldError(f"data.{name}", f"is not a field of {event_type}") for name in data if name not in fields]
    for name, field in fields.items():
        if name not in data:
            if field.required:
                errors.append(FieldError(f"data.{name}", f"is required for {event_type}"))
        elif problem := field.check(data[name]):
            errors.append(FieldError(f"data.{name}", problem))
    if event_type == "session.scored" and not {"scoreRaw", "scoreScaled"} & data.keys():
        errors.append(FieldError("data.scoreRaw", "scoreRaw or scoreScaled is required for session.scored"))
    return errors


def check_event(event: Event) -> Event:
    """The event itself, or `Invalid` naming each field that is wrong."""
    errors = [
        FieldError(name, f"must be an id: {ID_WORDS}")
        for name, value in (("id", event.id), ("accountId", event.account_id))
        if not is_id(value)
    ]
    if event.occurred_at.tzinfo is None:
        errors.append(FieldError("createdAt", _TIME_WORDS))
    if event.trace_parent is not None and not _TRACE_PARENT.fullmatch(event.trace_parent):
        errors.append(FieldError("traceParent", "must be a W3C traceparent: 00-<32 hex>-<16 hex>-<2 hex>"))
    if event.type in EVENT_TYPES:
        errors += data_errors(event.type, event.data)
    else:
        errors.append(FieldError("type", "must be one of: " + ", ".join(EVENT_TYPES)))
    if errors:
        raise Invalid(*errors)
    return event


# -- JSON in and out -------------------------------------------------------------------------------------------


def parse_time(text: Any) -> datetime | None:
    """An aware UTC time from RFC 3339 text, or None when it is not one."""
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.astimezone(UTC) if parsed.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


_FIELDS = {"id", "type", "createdAt", "accountId", "data", "traceParent"}
_NEVER = datetime.min.replace(tzinfo=UTC)


def parse_event(fields: Mapping[str, Any], *, default_id: str) -> Event:
    """An event from the payload's JSON plus `accountId`; without an `id` it gets `default_id`.

    Raises `Invalid`, naming every field that is wrong.
    """
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
        check_event(event)
    except Invalid as wrong:
        errors += wrong.errors
    if not isinstance(data, Mapping):
        errors = [error for error in errors if not error.field.startswith("data")]
        errors.append(FieldError("data", "must be an object"))
    if errors:
        raise Invalid(*errors)
    return event


def partition_key(event: Event) -> str:
    """What `session-events` is keyed by, so that a session's events keep their order: session, package or account."""
    return event.text("sessionId") or event.package_id or event.account_id


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with a `Z`; milliseconds only where there are any."""
    spec = "milliseconds" if moment.microsecond >= 1000 else "seconds"
    return moment.astimezone(UTC).isoformat(timespec=spec).replace("+00:00", "Z")


def render(event: Event) -> bytes:
    """The body: UTF-8 JSON, camelCase, whole numbers as integers, absent values left out.

    Rendered once for each event, so that every webhook and every attempt sends the same bytes.
    """
    payload: dict[str, Any] = {"id": event.id, "type": event.type, "createdAt": format_time(event.occurred_at)}
    if event.test:
        payload["test"] = True
    payload["data"] = {name: _plain(value) for name, value in event.data.items()}
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: str | float) -> str | int | float:
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value
