"""Filters of webhooks: conditions on the `data` of an event, which must all hold."""

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from streams.core.errors import FieldError, Invalid
from streams.core.events.event_data import EVENT_TYPES, NUMBER_DESCRIPTION, FieldType, is_unicode
from streams.core.limits import MAX_EXACT_INTEGER, MAX_FILTER_BYTES, MAX_FILTER_CONDITIONS, MAX_FILTER_VALUES
from streams.core.text import shorten

METADATA_FIELD = "metadata"
_SCALARS = frozenset({str, int, float})
_VALUE_CHARACTERS = 80
_VALUES_SHOWN = 5


class Operator(StrEnum):
    """What a condition asks of a field."""

    EQ = "eq"
    IN = "in"
    GTE = "gte"
    LTE = "lte"
    EXISTS = "exists"


OPERATORS = ", ".join(Operator)


class UnknownOperator(Invalid):
    """A filter with an operator that a newer release may know."""


class Condition(NamedTuple):
    """A condition on one field, or on one pair of `metadata`. `test` gets the value and the operand.

    A value is None where the event lacks the field. The operand of `in` is a set.
    """

    name: str
    pair: str | None
    operator: Operator
    operand: Any
    test: Callable[[Any, Any], bool]

    @property
    def full_name(self) -> str:
        """The field as a filter names it: `metadata.department`."""
        return self.name if self.pair is None else f"{self.name}.{self.pair}"

    def value_in(self, data: Mapping[str, Any]) -> Any:
        value = data.get(self.name)
        if self.pair is None:
            return value
        return value.get(self.pair) if isinstance(value, Mapping) else None

    def explain(self, value: Any) -> str:
        """Why the condition does not hold for this value, as a sentence for people."""
        name, operand = self.full_name, self.operand
        if self.operator is Operator.EXISTS and not operand:
            return f"{name} is there, and must be absent"
        if value is None:
            return f"{name} is absent"
        match self.operator:
            case Operator.EQ:
                operand_text = _to_text(operand)
            case Operator.IN:
                operand_texts = sorted(map(_to_text, operand))
                omitted = (
                    f" and {len(operand_texts) - _VALUES_SHOWN} more" if len(operand_texts) > _VALUES_SHOWN else ""
                )
                operand_text = f"one of {', '.join(operand_texts[:_VALUES_SHOWN])}{omitted}"
            case Operator.GTE:
                operand_text = f"{_to_text(operand)} or more"
            case _:
                operand_text = f"{_to_text(operand)} or less"
        return f"{name} is {_to_text(value)}, not {operand_text}"


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Conditions that must all hold. `text` is the filter as JSON; filters with the same text are equal.

    `fan-out` compares many events with one filter, so it is parsed once and kept with its webhook.
    """

    text: str
    conditions: tuple[Condition, ...] = field(compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """The filter as a person enters it."""
        value: dict[str, Any] = json.loads(self.text)
        return value

    def matches(self, data: Mapping[str, Any]) -> bool:
        """Whether every condition holds. It never raises."""
        for name, pair, _, operand, test in self.conditions:
            value = data.get(name)
            if pair is not None:
                value = value.get(pair) if isinstance(value, Mapping) else None
            if not test(value, operand):
                return False
        return True

    def explain(self, data: Mapping[str, Any]) -> str | None:
        """Why the first condition that fails does not hold; None when all hold."""
        for condition in self.conditions:
            value = condition.value_in(data)
            if not condition.test(value, condition.operand):
                return condition.explain(value)
        return None


def _is_equal(value: Any, operand: Any) -> bool:
    return type(value) in _SCALARS and value == operand


def _is_in(value: Any, operand: frozenset[Any]) -> bool:
    # A list has no hash, and `True` is 1 to Python.
    return type(value) in _SCALARS and value in operand


def _is_at_least(value: Any, operand: float) -> bool:
    return type(value) in (int, float) and value >= operand


def _is_at_most(value: Any, operand: float) -> bool:
    return type(value) in (int, float) and value <= operand


def _exists(value: Any, operand: bool) -> bool:
    return (value is not None) is operand


_OPERATOR_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    Operator.EQ: _is_equal,
    Operator.IN: _is_in,
    Operator.GTE: _is_at_least,
    Operator.LTE: _is_at_most,
    Operator.EXISTS: _exists,
}


def _to_text(value: object) -> str:
    return shorten(json.dumps(value, ensure_ascii=False), _VALUE_CHARACTERS)


# -- what a person enters --------------------------------------------------------------------------------------------


def parse_filter_json(text: str) -> object:
    """The JSON in a text. Raises `Invalid`."""
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicates, parse_constant=_reject_constant)
    except (ValueError, RecursionError) as error:
        raise Invalid(FieldError("filter", f"must be JSON: {error}")) from None


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a name occurs twice in one object")
    return values


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def parse_filter(value: object) -> EventFilter:
    """Parse a filter. Raises `Invalid`, which names each wrong field, and `UnknownOperator`.

    The fields of event types are checked by `filter_conflicts`, not here: a newer release may have more of them.
    """
    if not isinstance(value, Mapping) or not value:
        example = '{"successStatus": "passed"}'
        raise Invalid(FieldError("filter", f"must be an object with one condition or more, such as {example}"))
    fields: dict[str, Mapping[str, Any]] = {
        name: entry if isinstance(entry, Mapping) else {Operator.EQ: entry} for name, entry in value.items()
    }
    if max(len(fields), sum(map(len, fields.values()))) > MAX_FILTER_CONDITIONS:
        raise Invalid(FieldError("filter", f"must have at most {MAX_FILTER_CONDITIONS} conditions"))
    if operator_errors := [
        FieldError(f"filter.{name}", _unknown_operator(name, operator))
        for name, operands in fields.items()
        for operator in operands.keys() - _OPERATOR_TESTS.keys()
    ]:
        raise UnknownOperator(*operator_errors)
    if errors := [FieldError(f"filter.{name}", problem) for name, problem in _problems(fields)]:
        raise Invalid(*errors)
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text.encode()) > MAX_FILTER_BYTES:
        raise Invalid(FieldError("filter", f"must have at most {MAX_FILTER_BYTES} bytes as JSON without spaces"))
    return EventFilter(
        text,
        tuple(
            _condition(name, Operator(operator), operand)
            for name, operands in fields.items()
            for operator, operand in operands.items()
        ),
    )


def _unknown_operator(name: str, operator: str) -> str:
    if name == METADATA_FIELD:
        return f"must name a pair, as in {METADATA_FIELD}.{operator}"
    return f"{operator!r} is not an operator; the operators are {OPERATORS}"


def _condition(full_name: str, operator: Operator, operand: Any) -> Condition:
    name, separator, pair = full_name.partition(".")
    is_pair = name == METADATA_FIELD and bool(separator)
    return Condition(
        name if is_pair else full_name,
        pair if is_pair else None,
        operator,
        frozenset(operand) if operator is Operator.IN else operand,
        _OPERATOR_TESTS[operator],
    )


def _problems(fields: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for name, operands in fields.items():
        if name == METADATA_FIELD:
            yield name, f"must name a pair, as in {METADATA_FIELD}.department"
        elif not is_unicode(name):
            yield name, "must be the name of a field"
        elif not operands:
            yield name, f"must have an operator: {OPERATORS}"
        for operator, operand in operands.items():
            if problem := _operand_problem(operator, operand):
                yield name, problem


def _operand_problem(operator: str, operand: object) -> str | None:
    match operator:
        case Operator.EQ:
            return None if _is_scalar(operand) else f"must be a text, {NUMBER_DESCRIPTION} or an object of {OPERATORS}"
        case Operator.IN:
            is_valid = (
                isinstance(operand, list) and 0 < len(operand) <= MAX_FILTER_VALUES and all(map(_is_scalar, operand))
            )
            return (
                None
                if is_valid
                else f"in must be a list of 1 to {MAX_FILTER_VALUES} texts, or numbers of -2^53 to 2^53"
            )
        case Operator.EXISTS:
            return None if isinstance(operand, bool) else "exists must be true or false"
    return None if _is_number(operand) else f"{operator} is for numbers: must be {NUMBER_DESCRIPTION}"


def _is_scalar(value: object) -> bool:
    return is_unicode(value) if isinstance(value, str) else _is_number(value)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_EXACT_INTEGER  # type: ignore[arg-type]


def filter_conflicts(event_filter: EventFilter, event_types: Collection[str]) -> list[FieldError]:
    """What is wrong with a filter for a webhook that takes events of these types."""
    errors = _contradictions(event_filter)
    for condition in event_filter.conditions:
        kinds = [EVENT_TYPES[name][condition.name].kind for name in event_types if condition.name in EVENT_TYPES[name]]
        problems = [_type_problem(condition, kind) for kind in kinds]
        if not kinds:
            names = dict.fromkeys(name for event_type in event_types for name in EVENT_TYPES[event_type])
            text = ", ".join(f"{METADATA_FIELD}.NAME" if name == METADATA_FIELD else name for name in names)
            problems = [f"is not a field of an event type that the webhook takes; the fields are {text}"]
        if None not in problems:
            errors.append(FieldError(f"filter.{condition.full_name}", problems[0] or ""))
    return errors


def _contradictions(event_filter: EventFilter) -> list[FieldError]:
    """Conditions on one field that no event can meet together. `parse_filter` reads them: a record may have them."""
    operands: dict[str, dict[str, Any]] = {}
    for condition in event_filter.conditions:
        operands.setdefault(condition.full_name, {})[condition.operator] = condition.operand
    errors = []
    for name, by_operator in operands.items():
        if by_operator.get(Operator.EXISTS) is False and len(by_operator) > 1:
            errors.append(FieldError(f"filter.{name}", "exists is false beside another operator: no event would match"))
        elif by_operator.get(Operator.GTE, -math.inf) > by_operator.get(Operator.LTE, math.inf):
            errors.append(FieldError(f"filter.{name}", "gte is above lte: no event would match"))
        elif problem := _values_problem(by_operator):
            errors.append(FieldError(f"filter.{name}", f"{problem}: no event would match"))
    return errors


def _values_problem(by_operator: Mapping[str, Any]) -> str | None:
    """Why no value of `eq` and `in` meets all conditions on its field; None if one does."""
    names = [operator for operator in (Operator.EQ, Operator.IN) if operator in by_operator]
    if not names:
        return None
    operand = by_operator[names[0]]
    values = [operand] if names[0] is Operator.EQ else list(operand)
    for operator, other in by_operator.items():
        if operator != names[0] and not any(_OPERATOR_TESTS[operator](value, other) for value in values):
            return f"{operator} excludes {'what eq names' if names[0] is Operator.EQ else 'all values of in'}"
    is_met = any(all(_OPERATOR_TESTS[op](value, other) for op, other in by_operator.items()) for value in values)
    return None if is_met else f"no value of {names[0]} meets all of {', '.join(by_operator)}"


def _type_problem(condition: Condition, kind: FieldType) -> str | None:
    operator, operand = condition.operator, condition.operand
    if operator in (Operator.GTE, Operator.LTE) and not kind.is_number:
        return f"{operator} is for numbers"
    if operator is Operator.EXISTS:
        operands = [""] if condition.pair is not None else []
    else:
        operands = list(operand) if operator is Operator.IN else [operand]
    values = operands if condition.pair is None else [{condition.pair: item} for item in operands]
    problem = next(filter(None, map(kind.check, values)), None)
    return problem and (problem if operator is Operator.EQ else f"{operator}: {problem}")
