"""A filter as rows of a form, each with a field, a condition and a value."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.shell.forms import Form
from streams.core.errors import FieldError, Invalid
from streams.core.events.event import Event
from streams.core.events.event_data import EVENT_TYPES
from streams.core.events.event_filter import METADATA_FIELD, Operator, parse_filter_json

# Empty rows, for further conditions.
EMPTY_ROWS = 2
# Names in addition to those of the latest events.
MAX_NAMES = 200
# The conditions by the names that a form sends, with the words that people see.
CONDITIONS: Mapping[str, str] = {
    Operator.EQ: "is",
    Operator.IN: "is one of (with commas)",
    Operator.GTE: "is at least",
    Operator.LTE: "is at most",
    "present": "is there",
    "absent": "is not there",
}
_NUMBER_FIELDS = frozenset(
    name for fields in EVENT_TYPES.values() for name, field in fields.items() if field.kind.is_number
)


@dataclass(frozen=True, slots=True)
class FilterRow:
    """One condition as a person types it."""

    name: str = ""
    condition: str = Operator.EQ
    value: str = ""


def to_rows(event_filter: Mapping[str, Any] | None) -> list[FilterRow]:
    """The rows of a filter, and some empty ones. Empty if rows cannot express the filter.

    For example, a value may contain a comma. Such a filter stays as it is, unless its JSON is changed.
    """
    rows = list[FilterRow]()
    for name, entry in (event_filter or {}).items():
        operands = entry if isinstance(entry, Mapping) else {Operator.EQ: entry}
        for operator, operand in operands.items():
            if operator == Operator.EXISTS:
                rows.append(FilterRow(name, "present" if operand else "absent"))
            elif operator == Operator.IN:
                rows.append(FilterRow(name, operator, ", ".join(map(_to_text, operand))))
            else:
                rows.append(FilterRow(name, operator, _to_text(operand)))
    return [*rows, *[FilterRow()] * EMPTY_ROWS] if _says(rows, event_filter) else []


def filter_fields(event_filter: Mapping[str, Any] | None) -> dict[str, Any]:
    """A filter as rows and as JSON, and its value before either is changed."""
    text = json.dumps(event_filter, ensure_ascii=False) if event_filter else ""
    return {"filter": text, "filter_before": text, "filter_rows": to_rows(event_filter)}


def _says(rows: Sequence[FilterRow], event_filter: Mapping[str, Any] | None) -> bool:
    try:
        return parse_rows(rows) == (event_filter or None)
    except Invalid:
        return False


def typed_rows(form: Form) -> list[FilterRow]:
    """The rows of a form as they were typed, without empty ones."""
    columns = (form.values(f"filter_{column}") for column in ("name", "condition", "value"))
    rows = [FilterRow(name.strip(), condition, value.strip()) for name, condition, value in zip(*columns, strict=False)]
    return [row for row in rows if row.name or row.value]


def parse_rows(rows: Sequence[FilterRow]) -> dict[str, Any] | None:
    """The filter of these rows; None if there are none. Raises `Invalid` for an ambiguous row."""
    conditions: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row.name:
            raise Invalid(FieldError("filter", f"must have a field beside “{row.value}”"))
        operator, operand = _operand_of(row)
        operands = conditions.setdefault(row.name, {})
        if operator in operands:
            raise Invalid(FieldError(f"filter.{row.name}", f"has “{CONDITIONS[row.condition]}” in two rows"))
        operands[operator] = operand
    return {
        name: operands[Operator.EQ] if operands.keys() == {Operator.EQ} else operands
        for name, operands in conditions.items()
    } or None


def chosen_filter(form: Form) -> object | None:
    """The filter of a form with rows and JSON: whichever was changed. Raises `Invalid` if both were.

    `filter_before` is the filter that the form began with.
    """
    before = _json_of(form["filter_before"])
    from_json, from_rows = _json_of(form["filter"]), before
    if form.values("filter_name"):
        from_rows = parse_rows(typed_rows(form))
    is_json_changed, are_rows_changed = from_json != before, from_rows != before
    if is_json_changed and are_rows_changed and from_json != from_rows:
        raise Invalid(FieldError("filter", "has changes in the rows and in its JSON: change one of both"))
    return from_rows if are_rows_changed else from_json


def names_in(events: Iterable[Event]) -> list[str]:
    """The names of these events' fields and metadata pairs; without events, the field names of all types."""
    names: dict[str, None] = {}
    for event in events:
        for name, value in event.data.items():
            if name == METADATA_FIELD and isinstance(value, Mapping):
                names |= dict.fromkeys(f"{METADATA_FIELD}.{pair}" for pair in value)
            else:
                names[name] = None
    if not names:
        names = dict.fromkeys(name for fields in EVENT_TYPES.values() for name in fields if name != METADATA_FIELD)
    return sorted(names)[:MAX_NAMES]


def _operand_of(row: FilterRow) -> tuple[str, Any]:
    match row.condition:
        case "present" | "absent":
            if row.value:
                raise Invalid(FieldError(f"filter.{row.name}", f"takes no value beside “{CONDITIONS[row.condition]}”"))
            return Operator.EXISTS, row.condition == "present"
        case Operator.IN:
            return Operator.IN, [_to_operand(row.name, part.strip()) for part in row.value.split(",") if part.strip()]
        case Operator.EQ:
            return Operator.EQ, _to_operand(row.name, row.value)
        case Operator.GTE | Operator.LTE:
            return row.condition, _to_number(row.value)
    raise Invalid(FieldError(f"filter.{row.name}", f"has no condition {row.condition!r}"))


def _to_operand(name: str, text: str) -> Any:
    return _to_number(text) if name in _NUMBER_FIELDS else text


def _to_number(text: str) -> Any:
    """A number, or the text itself: the filter's rules then report it."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text


def _to_text(operand: object) -> str:
    return operand if isinstance(operand, str) else json.dumps(operand)


def _json_of(text: str) -> object | None:
    return parse_filter_json(text) if text else None
