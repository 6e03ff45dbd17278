"""Convert values to Avro records and back: names and types of their fields."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import partial
from operator import attrgetter, itemgetter
from typing import Any

from streams.core.deliveries.attempt import Attempt, DeadLetter, NextStep
from streams.core.deliveries.delivery import DeathReason, Delivery, HoldReason, SubscriptionsPosition, Target, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.errors import FieldError, Invalid, InvalidRecord, NewerRecord
from streams.core.events.event import Event, EventSubjects
from streams.core.events.event_data import EVENT_TYPES
from streams.core.records.record_checks import (
    check_attempt,
    check_dead_letter,
    check_delivery,
    check_webhook,
    parse_recorded_filter,
    parse_recorded_options,
)
from streams.core.webhooks.field_rules import to_camel_case
from streams.core.webhooks.webhook import EncryptedSecret, Pause, PauseReason, Status, Webhook

Record = dict[str, Any]
Convert = Callable[[Any], Any]


# -- values and records ----------------------------------------------------------------------------------------


class _Shape:
    """Converts a dataclass or named tuple to an Avro record with the same fields in camelCase.

    `special` has a pair of conversions, to write and to read, for each field that needs one.
    """

    def __init__(self, value: Any, **special: tuple[Convert, Convert]) -> None:
        is_tuple = not is_dataclass(value)
        names = value._fields if is_tuple else [field.name for field in fields(value)]
        self._make: Convert = value._make if is_tuple else partial(_construct, value)
        self._parts: Convert = _identity if is_tuple else attrgetter(*names)
        self.fields = [to_camel_case(name) for name in names]
        self._values = itemgetter(*self.fields)
        self._writes = [(to_camel_case(name), write) for name, (write, _) in special.items() if write is not _identity]
        self._reads = [(to_camel_case(name), convert_back) for name, (_, convert_back) in special.items()]

    def to_record(self, value: Any) -> Record:
        record = dict(zip(self.fields, self._parts(value), strict=True))
        for name, write in self._writes:
            record[name] = write(record[name])
        return record

    def to_value(self, record: Record) -> Any:
        for name, convert_back in self._reads:
            record[name] = convert_back(record[name])
        return self._make(self._values(record))


def _identity(value: Any) -> Any:
    return value


def _construct(value: Callable[..., Any], parts: Any) -> Any:
    return value(*parts)


def _enum(values: type[StrEnum]) -> tuple[Convert, Convert]:
    """An enum. In the schema it is a string, so that a new value needs no new schema. Newer releases may know more."""
    members = {member.value: member for member in values}

    def read(value: str) -> StrEnum:
        try:
            return members[value]
        except KeyError:
            raise NewerRecord(f"{value[:40]!r} is not a {values.__name__}; known are {', '.join(members)}") from None

    return _identity, read


def _nested(shape: _Shape) -> tuple[Convert, Convert]:
    return shape.to_record, shape.to_value


def _optional(convert: tuple[Convert, Convert]) -> tuple[Convert, Convert]:
    write, convert_back = convert
    maybe_write = write if write is _identity else lambda value: None if value is None else write(value)
    return maybe_write, lambda value: None if value is None else convert_back(value)


def _tuple_of(convert: tuple[Convert, Convert]) -> tuple[Convert, Convert]:
    write, convert_back = convert
    return lambda values: [write(value) for value in values], lambda values: tuple(map(convert_back, values))


# Sorted, so that the same webhook always has the same bytes.
_SET: tuple[Convert, Convert] = (sorted, frozenset)

_DELIVERY = _Shape(
    Delivery,
    subscriptions_position=_nested(_Shape(SubscriptionsPosition)),
    trigger=_enum(Trigger),
    target=_enum(Target),
    hold_reason=_optional(_enum(HoldReason)),
    subjects=_nested(_Shape(EventSubjects, metadata=(list, tuple))),
)
_ATTEMPT = _Shape(
    Attempt,
    trigger=_enum(Trigger),
    target=_enum(Target),
    outcome=_enum(OutcomeKind),
    next_step=_enum(NextStep),
    fields=_optional((list, tuple)),
)
_DEAD_LETTER = _Shape(DeadLetter, delivery=_nested(_DELIVERY), reason=_enum(DeathReason))
_WEBHOOK = _Shape(
    Webhook,
    secrets=_tuple_of(_nested(_Shape(EncryptedSecret))),
    event_types=_SET,
    packages=_SET,
    dispatches=_SET,
    status=_enum(Status),
    pause=_optional(_nested(_Shape(Pause, reason=_enum(PauseReason)))),
    filter=_optional((attrgetter("text"), parse_recorded_filter)),
    options=(attrgetter("text"), parse_recorded_options),
)


# -- events ----------------------------------------------------------------------------------------------------

# `session.launched` carries the record SessionLaunched, and so on.
_DATA_BRANCHES = {name: "scormwebhooks.v1." + name.title().replace(".", "") for name in EVENT_TYPES}


def _to_event_record(event: Event) -> Record:
    errors = []
    if event.type not in _DATA_BRANCHES:
        errors.append(FieldError("type", "must be one of: " + ", ".join(_DATA_BRANCHES)))
    if event.occurred_at.tzinfo is None:
        errors.append(FieldError("createdAt", "must be a time with a zone"))
    if event.test:
        errors.append(FieldError("test", "must be false: consumers would take a test event for a real one"))
    if errors:
        raise Invalid(*errors)
    return {
        "id": event.id,
        "type": event.type,
        "accountId": event.account_id,
        "occurredAt": event.occurred_at,
        "traceParent": event.trace_parent,
        # fastavro needs the name of the branch: some branches have the same fields.
        "data": (
            _DATA_BRANCHES[event.type],
            {name: value for name, value in event.data.items() if name not in _EVENT_FIELDS},
        ),
        "metadata": event.data.get("metadata", {}),
        "sequence": event.data.get("sequence"),
    }


def _to_event(record: Record) -> Event:
    event_type, (branch, data) = record["type"], record["data"]
    if _DATA_BRANCHES.get(event_type, branch) != branch:
        raise InvalidRecord(f"type is {event_type} but data is a {branch.rpartition('.')[2]}")
    return Event(
        id=record["id"],
        type=event_type,
        account_id=record["accountId"],
        occurred_at=record["occurredAt"],
        data={name: value for name, value in data.items() if value is not None} | _shared_event_data(record),
        trace_parent=record["traceParent"],
    )


# Fields of `data` in JSON that an Avro record has next to `data`, because every type has them.
_EVENT_FIELDS = ("sequence", "metadata")


def _shared_event_data(record: Record) -> dict[str, Any]:
    values = {name: record[name] for name in _EVENT_FIELDS}
    return {name: value for name, value in values.items() if value not in (None, {})}


# -- by schema -------------------------------------------------------------------------------------------------

EVENT_SCHEMA = "session_event"


def _with_check(shape: _Shape, check: Convert) -> Convert:
    """Convert a record to a value and check the value."""
    return lambda record: check(shape.to_value(record))


# By the name of the schema: the type of its value, and the conversions to a record and back.
VALUES: dict[str, tuple[type, Convert, Convert]] = {
    EVENT_SCHEMA: (Event, _to_event_record, _to_event),
    "delivery": (Delivery, _DELIVERY.to_record, _with_check(_DELIVERY, check_delivery)),
    "attempt": (Attempt, _ATTEMPT.to_record, _with_check(_ATTEMPT, check_attempt)),
    "dead_letter": (DeadLetter, _DEAD_LETTER.to_record, _with_check(_DEAD_LETTER, check_dead_letter)),
    "webhook": (Webhook, _WEBHOOK.to_record, _with_check(_WEBHOOK, check_webhook)),
}
