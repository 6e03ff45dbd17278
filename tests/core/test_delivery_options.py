"""A webhook's own rules of delivery: what is accepted, and what a stored text gives back."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.errors import Invalid, InvalidRecord, NewerRecord
from streams.core.records.record_checks import parse_recorded_options
from streams.core.webhooks.auth import UnknownOption
from streams.core.webhooks.delivery_options import DEFAULT_OPTIONS, parse_options

rules = st.fixed_dictionaries(
    {},
    optional={
        "timeoutSeconds": st.none() | st.integers(1, 30),
        "retries": st.none() | st.sampled_from([[], ["30s"], ["30s", "2m", "24h", "24h"]]),
        "pauseAfter": st.none()
        | st.fixed_dictionaries({}, optional={"failures": st.integers(1, 100), "minutes": st.integers(0, 10080)}),
        "onGone": st.sampled_from([None, "pause", "delete"]),
        "resume": st.sampled_from([None, "manual", "probe"]),
        "ratePerSecond": st.floats(0.1, 1000) | st.integers(1, 1000),
        "fields": st.sampled_from([None, ["sessionId"], ["metadata.cost.center", "sequence", "metadata"]]),
    },
)


@given(rules)
def test_a_stored_text_gives_the_same_options(values: dict[str, Any]) -> None:
    options = parse_options(values)
    assert parse_recorded_options(options.text) == options
    assert parse_options(options.to_json()) == options
    assert (options.text is None) is (options == DEFAULT_OPTIONS)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"timeoutSeconds": 0}, "timeoutSeconds: must be a whole number from 1 to 30"),
        ({"timeoutSeconds": True}, "timeoutSeconds: must be a whole number from 1 to 30"),
        ({"retries": "30s"}, 'retries: must be a list of waits, such as ["30s", "2m", "1h"]'),
        ({"retries": ["30s", "3 weeks"]}, "retries: '3 weeks' is not a wait such as 30s, 2m, 6h or 1d"),
        (
            {"retries": ["1h", "60s"]},
            'retries: each wait must be as long as the one before, or longer, as in ["30s", "2m", "1h"]',
        ),
        ({"pauseAfter": 5}, 'pauseAfter: must have the form {"failures": 5, "minutes": 0}'),
        ({"pauseAfter": {"failures": 101}}, "pauseAfter.failures: must be a whole number from 1 to 100"),
        ({"pauseAfter": {"minutes": -1}}, "pauseAfter.minutes: must be a whole number from 0 to 10080"),
        ({"onGone": "ignore"}, "onGone: must be one of: pause, delete"),
        ({"ratePerSecond": 0}, "ratePerSecond: must be a number from 0.1 to 1000"),
        ({"ratePerSecond": "5"}, "ratePerSecond: must be a number from 0.1 to 1000"),
        ({"ratePerSecond": 10**400}, "ratePerSecond: must be a number from 0.1 to 1000"),
        ({"ratePerSecond": 5, "rateBurst": 0}, "rateBurst: must be a whole number from 1 to 1000"),
        ({"rateBurst": 5}, "rateBurst: needs ratePerSecond"),
        ({"resume": True}, "resume: must be one of: manual, probe"),
        ({"onGone": []}, "onGone: must be one of: pause, delete"),
        ({"fields": []}, 'fields: must be a list of fields of `data`, such as ["sessionId", "metadata.department"]'),
        (
            {"fields": "sessionId"},
            'fields: must be a list of fields of `data`, such as ["sessionId", "metadata.department"]',
        ),
        ({"fields": ["sessionId"] * 51}, "fields: must have at most 50 fields"),
        ({"fields": ["session"]}, "fields: 'session' is not a field of any type's `data`"),
        ({"fields": ["sessionId.x"]}, "fields: 'sessionId.x' is not a field of any type's `data`"),
        ({"fields": ["metadata."]}, "fields: 'metadata.' is not a field of any type's `data`"),
    ],
)
def test_a_wrong_rule_is_named_with_what_would_be_right(values: dict[str, Any], error: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_options(values)
    assert str(caught.value) == error


def test_every_wrong_rule_is_named() -> None:
    with pytest.raises(Invalid) as caught:
        parse_options({"timeoutSeconds": 99, "onGone": "x", "retries": ["30s"]})
    assert [error.field for error in caught.value.errors] == ["timeoutSeconds", "onGone"]


def test_an_unknown_rule_is_of_a_newer_release() -> None:
    with pytest.raises(UnknownOption):
        parse_options({"fragrance": "lemon"})
    with pytest.raises(NewerRecord, match="fragrance"):
        parse_recorded_options('{"fragrance": "lemon"}')


@pytest.mark.parametrize("text", ["", "[]", "3", '{"timeoutSeconds": 99}', "{", '{"retries": ["1s", null]}'])
def test_a_text_that_is_no_rules_is_an_invalid_record(text: str) -> None:
    with pytest.raises(InvalidRecord):
        parse_recorded_options(text)
