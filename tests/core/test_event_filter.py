"""Which events a filter lets through, what it says of the others, and which filters are refused."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import EXAMPLE, WIDEST
from streams.core.errors import Invalid
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES
from streams.core.events.event_filter import (
    Operator,
    UnknownOperator,
    filter_conflicts,
    parse_filter,
    parse_filter_json,
)
from streams.core.limits import MAX_FILTER_BYTES, MAX_FILTER_CONDITIONS, MAX_FILTER_VALUES

DATA = {**EXAMPLE, "scoreScaled": 0.92, "metadata": {"department": "sales", "cost.center": "7"}}
BY_DEFAULT = EVENT_TYPES.keys() - OPT_IN_TYPES


def errors_of(value: object, types: frozenset[str] = frozenset(BY_DEFAULT)) -> dict[str, str]:
    """What is wrong with a filter of a webhook that takes these types."""
    try:
        return {error.field: error.message for error in filter_conflicts(parse_filter(value), types)}
    except Invalid as wrong:
        return {error.field: error.message for error in wrong.errors}


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"successStatus": "passed"}, None),
        ({"successStatus": {"eq": "passed"}}, None),
        ({"successStatus": "failed"}, 'successStatus is "passed", not "failed"'),
        ({"successStatus": {"in": ["failed", "unknown"]}}, 'successStatus is "passed", not one of "failed", "unknown"'),
        ({"scoreRaw": 92.0}, None),
        ({"scoreScaled": {"gte": 0.92, "lte": 0.92}}, None),
        ({"scoreScaled": {"gte": 0.95}}, "scoreScaled is 0.92, not 0.95 or more"),
        ({"scoreScaled": {"gte": 0.5, "lte": 0.9}}, "scoreScaled is 0.92, not 0.9 or less"),
        ({"metadata.department": {"in": ["sales", "hr"]}}, None),
        ({"metadata.cost.center": "7"}, None),
        ({"metadata.site": "north"}, "metadata.site is absent"),
        ({"version": "2"}, "version is absent"),
        ({"version": {"exists": False}}, None),
        ({"version": {"exists": True}}, "version is absent"),
        ({"dispatchId": {"exists": False}}, "dispatchId is there, and must be absent"),
        ({"successStatus": "passed", "scoreRaw": {"lte": 50}}, "scoreRaw is 92, not 50 or less"),
        ({"scoreRaw": {"in": [1, 2, 3, 4, 5, 6, 7]}}, "scoreRaw is 92, not one of 1, 2, 3, 4, 5 and 2 more"),
    ],
)
def test_a_filter_says_why_an_event_does_not_match(value: dict[str, Any], sentence: str | None) -> None:
    event_filter = parse_filter(value)
    assert event_filter.explain(DATA) == sentence
    assert event_filter.matches(DATA) is (sentence is None)
    assert errors_of(value) == {}


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        (None, "filter", "must be an object"),
        ({}, "filter", "must be an object"),
        (["successStatus"], "filter", "must be an object"),
        ({"sucessStatus": "passed"}, "filter.sucessStatus", "not a field"),
        ({"reported": "nothing"}, "filter.reported", "not a field"),
        ({"sessionId.x": "sess_1"}, "filter.sessionId.x", "not a field"),
        ({"data.successStatus": "x"}, "filter.data.successStatus", "takes; the fields are "),
        ({"metadata": {"department": "x"}}, "filter.metadata", "must name a pair, as in metadata.department"),
        ({"learnerId": {"gte": "a"}}, "filter.learnerId", "gte is for numbers: must be a number from -2^53 to 2^53"),
        ({"scoreScaled": {"gte": 0.9, "lte": 0.1}}, "filter.scoreScaled", "gte is above lte: no event would match"),
        ({"scoreRaw": {"exists": False, "gte": 1}}, "filter.scoreRaw", "no event would match"),
        ({"metadata": {"exists": True}}, "filter.metadata", "must name a pair"),
        ({"metadata.": "x"}, "filter.metadata.", "names of 1 to 64"),
        ({"metadata.level": 3}, "filter.metadata.level", "must be a text"),
        ({"successStatus": "pased"}, "filter.successStatus", "must be one of: passed"),
        ({"successStatus": {"in": ["passed", "fine"]}}, "filter.successStatus", "in: must be one of: passed"),
        ({"scoreScaled": {"gte": 80}}, "filter.scoreScaled", "gte: must be between -1 and 1"),
        ({"scoreScaled": "0.8"}, "filter.scoreScaled", "must be a number from -2^53 to 2^53"),
        ({"scoreRaw": True}, "filter.scoreRaw", "must be a text, a number from -2^53 to 2^53 or an object"),
        ({"scoreRaw": None}, "filter.scoreRaw", "must be a text, a number from -2^53 to 2^53 or an object"),
        ({"scoreRaw": [1]}, "filter.scoreRaw", "must be a text, a number from -2^53 to 2^53 or an object"),
        ({"scoreRaw": {}}, "filter.scoreRaw", "must have an operator"),
        ({"scoreRaw": {"$gte": 1}}, "filter.scoreRaw", "'$gte' is not an operator; the operators are eq, in, gte"),
        ({"scoreRaw": {"neq": 1}}, "filter.scoreRaw", "'neq' is not an operator"),
        ({"scoreRaw": {"gte": "1"}}, "filter.scoreRaw", "gte is for numbers: must be a number from -2^53 to 2^53"),
        (
            {"scoreRaw": {"gte": float("nan")}},
            "filter.scoreRaw",
            "gte is for numbers: must be a number from -2^53 to 2^53",
        ),
        ({"scoreRaw": {"exists": 1}}, "filter.scoreRaw", "exists must be true or false"),
        ({"scoreRaw": {"in": []}}, "filter.scoreRaw", "in must be a list of 1 to 50"),
        ({"scoreRaw": {"in": list(range(MAX_FILTER_VALUES + 1))}}, "filter.scoreRaw", "in must be a list of 1 to 50"),
        ({"totalTime": {"gte": 1}}, "filter.totalTime", "gte is for numbers"),
        ({"learnerId": "\ud800"}, "filter.learnerId", "must be a text"),
        ({f"metadata.{n}": "x" for n in range(MAX_FILTER_CONDITIONS + 1)}, "filter", "at most 10 conditions"),
        ({f"metadata.{n}": {"eq": "x", "exists": True} for n in range(6)}, "filter", "at most 10 conditions"),
        ({f"metadata.{n}": {"in": ["x" * 500]} for n in range(9)}, "filter", f"at most {MAX_FILTER_BYTES} bytes"),
    ],
)
def test_a_wrong_filter_is_refused_by_its_field(value: object, field: str, words: str) -> None:
    errors = errors_of(value)
    assert words in errors[field]


def test_a_field_of_a_type_that_must_be_named_needs_the_type() -> None:
    assert errors_of({"reported": "nothing"}, frozenset({"session.ended"})) == {}
    assert errors_of({"thresholdPercent": {"gte": 100}}) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "must be JSON: Expecting"),
        ("[" * 100_000, "must be JSON"),
        ('{"scoreRaw": NaN}', "NaN is not a number"),
        ('{"scoreRaw": 1, "scoreRaw": 2}', "twice"),
        ("9" * 5000, "must be JSON"),
    ],
)
def test_a_text_that_is_not_json_is_refused(text: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_filter_json(text)
    assert words in str(refused.value)


def test_an_operator_of_a_newer_release_is_recognised() -> None:
    with pytest.raises(UnknownOperator):
        parse_filter({"learnerId": {"startsWith": "x"}})


def filtered_value(name: str) -> Any:
    """The widest value of a field that a filter may name: a usage count may be larger."""
    value = WIDEST[name]
    return min(value, 2**53) if isinstance(value, int) else value


def test_the_widest_values_can_be_filtered_by() -> None:
    for fields in EVENT_TYPES.values():
        for name in fields.keys() - {"metadata"}:
            assert errors_of({name: filtered_value(name)}, frozenset(EVENT_TYPES)) in (
                {},
                {"filter": errors_of_bytes()},
            )


def errors_of_bytes() -> str:
    return f"must have at most {MAX_FILTER_BYTES} bytes as JSON without spaces"


# -- properties ----------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["successStatus", "scoreScaled", "learnerId", "metadata.a", "metadata.a.b", "unheard"])
SCALARS = st.one_of(st.sampled_from(["passed", "a", "1", ""]), st.integers(-3, 3), st.floats(-3, 3))
OPERANDS = st.fixed_dictionaries(
    {},
    optional={
        "eq": SCALARS,
        "in": st.lists(SCALARS, min_size=1, max_size=4),
        "gte": st.floats(-3, 3) | st.integers(-3, 3),
        "lte": st.floats(-3, 3) | st.integers(-3, 3),
        "exists": st.booleans(),
    },
).filter(bool)
FILTERS = st.dictionaries(NAMES, SCALARS | OPERANDS, min_size=1, max_size=2)
DATAS = st.fixed_dictionaries(
    {},
    optional={
        "successStatus": SCALARS,
        "scoreScaled": SCALARS,
        "learnerId": SCALARS,
        "metadata": st.dictionaries(st.sampled_from(["a", "a.b"]), SCALARS, max_size=2),
    },
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


def naive(value: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    """The rules of docs/api.md, as they are written there."""
    for name, wanted in value.items():
        found = data.get("metadata", {}).get(name[9:]) if name.startswith("metadata.") else data.get(name)
        for operator, operand in (wanted if isinstance(wanted, dict) else {"eq": wanted}).items():
            if operator == "exists":
                holds = (found is not None) == operand
            elif found is None:
                holds = False
            elif operator in ("eq", "in"):
                holds = any(found == one for one in (operand if operator == "in" else [operand]))
            else:
                both = not isinstance(found, str)
                holds = both and (found >= operand if operator == "gte" else found <= operand)
            if not holds:
                return False
    return True


@given(FILTERS, DATAS)
def test_a_filter_matches_as_the_documents_say(value: dict[str, Any], data: dict[str, Any]) -> None:
    event_filter = parse_filter(value)
    assert event_filter.matches(data) is naive(value, data)
    assert (event_filter.explain(data) is None) is event_filter.matches(data)


@given(FILTERS)
def test_a_filter_is_the_same_after_its_text_is_read(value: dict[str, Any]) -> None:
    event_filter = parse_filter(value)
    again = parse_filter(parse_filter_json(event_filter.text))
    assert (again, again.to_json(), again.conditions) == (
        event_filter,
        json.loads(json.dumps(value)),
        event_filter.conditions,
    )


@given(FILTERS, st.dictionaries(NAMES | st.just("metadata"), ANYTHING))
def test_a_filter_takes_any_event(value: dict[str, Any], data: dict[str, Any]) -> None:
    event_filter = parse_filter(value)
    assert (event_filter.explain(data) is None) is event_filter.matches(data)


@given(ANYTHING | st.dictionaries(NAMES, ANYTHING | st.dictionaries(st.sampled_from(list(Operator)), ANYTHING)))
def test_anything_is_parsed_or_refused(value: object) -> None:
    try:
        event_filter = parse_filter(value)
    except Invalid:
        return
    filter_conflicts(event_filter, EVENT_TYPES)
    event_filter.matches(DATA)


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({"eq": "passed", "in": ["failed", "unknown"]}, "in excludes what eq names: no event would match"),
        ({"in": ["failed", "unknown"], "eq": "passed"}, "in excludes what eq names: no event would match"),
    ],
)
def test_a_value_that_in_excludes_is_refused(conditions: dict[str, Any], words: str) -> None:
    assert errors_of({"successStatus": conditions}) == {"filter.successStatus": words}


@pytest.mark.parametrize(
    "conditions",
    [
        {"eq": 5, "gte": 6},
        {"in": [5, 7], "lte": 4},
        {"in": [1, 9], "gte": 2, "lte": 8},
        {"eq": 5, "in": [5, 6], "lte": 4},
    ],
    ids=str,
)
def test_numbers_that_no_event_has_are_refused(conditions: dict[str, Any]) -> None:
    assert "no event would match" in errors_of({"scoreRaw": conditions})["filter.scoreRaw"]


@pytest.mark.parametrize(
    "conditions", [{"eq": 5, "in": [5, 6]}, {"in": [5, 7], "lte": 6}, {"eq": 5, "gte": 5, "exists": True}], ids=str
)
def test_conditions_that_one_value_meets_are_taken(conditions: dict[str, Any]) -> None:
    assert errors_of({"scoreRaw": conditions}) == {}


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 10**400, 1e300])
@pytest.mark.parametrize("operator", ["eq", "in", "gte"])
def test_a_number_that_no_double_holds_exactly_is_refused(number: float, operator: str) -> None:
    operand = [number] if operator == "in" else number
    assert "2^53" in errors_of({"scoreRaw": {operator: operand}})["filter.scoreRaw"]
    assert errors_of({"scoreRaw": {"lte": 2**53}}) == {}
