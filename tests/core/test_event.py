"""Which events are valid, and the body that every receiver gets."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import EXAMPLE, event
from streams.core.errors import Invalid
from streams.core.events.event import (
    Event,
    EventSubjects,
    check_event,
    parse_event,
    partition_key,
    render,
    subjects_of_event,
)
from streams.core.events.event_data import EVENT_TYPES
from streams.core.limits import MAX_REQUEST_FIELDS, MAX_SEQUENCE, MAX_TIME_CHARACTERS
from streams.core.times import format_time, parse_time

NOW = datetime(2026, 5, 1, tzinfo=UTC)
PAYLOAD: dict[str, Any] = {
    "id": "evt_01HYX9K2M3N4P5Q6R7S8T9V0W1",
    "type": "session.completed",
    "createdAt": "2026-04-10T14:32:00Z",
    "data": EXAMPLE,
}
POSTED = {**PAYLOAD, "accountId": "acme"}

# -- valid events --------------------------------------------------------------------------------------------

ids = st.from_regex(r"[A-Za-z0-9_:-]{1,128}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
numbers = st.integers(-(2**53), 2**53) | st.floats(-(2**53), 2**53)
whole = st.integers(0, 2**63 - 1)


def plain(most: int, least: int = 0) -> st.SearchStrategy[str]:
    """Texts without control characters."""
    controls = [chr(code) for code in (*range(32), 127)]
    characters = st.characters(exclude_categories=["Cs"], exclude_characters=controls)
    return st.text(characters, min_size=least, max_size=min(most, 30))


VALUES: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(("sessionId", "packageId", "dispatchId", "webhookId"), ids),
    **dict.fromkeys(("learnerId", "version", "title", "url"), texts),
    **dict.fromkeys(("scoreRaw", "scoreMin", "scoreMax"), numbers),
    **dict.fromkeys(("launches", "limit", "failures", "count", "lastStatus"), whole),
    "reason": st.sampled_from(("failures", "gone")),
    "pausedHours": st.sampled_from((0, 24)),
    "scoreScaled": st.floats(-1, 1) | st.integers(-1, 1),
    "completionStatus": st.sampled_from(("completed", "incomplete", "not attempted", "unknown")),
    "successStatus": st.sampled_from(("passed", "failed", "unknown")),
    "totalTime": st.sampled_from(("PT12M34S", "PT0S", "P1DT2H", "P2W", "PT1.5S")),
    "period": st.sampled_from(("2026-04", "1999-12")),
    "thresholdPercent": st.sampled_from((80, 100)),
    "previousCompletionStatus": st.sampled_from(("completed", "incomplete", "not attempted", "unknown")),
    "previousSuccessStatus": st.sampled_from(("passed", "failed", "unknown")),
    "reported": st.sampled_from(("nothing", "partly", "completed")),
    **dict.fromkeys(
        ("lastCommitAt", "since", "until", "pausedAt", "failingSince"),
        st.sampled_from(("2026-04-10T14:32:00Z", "2026-04-10T14:32:00.5+02:00")),
    ),
    "sequence": st.integers(0, MAX_SEQUENCE),
    "metadata": st.dictionaries(plain(64, 1), plain(500), min_size=1, max_size=20),
}


@st.composite
def data_of(draw: st.DrawFn, type_: str) -> dict[str, Any]:
    fields = EVENT_TYPES[type_]
    required = {name: VALUES[name] for name, field in fields.items() if field.is_required}
    if type_ == "session.scored":
        required["scoreRaw"] = VALUES["scoreRaw"]
    optional = {name: VALUES[name] for name in fields if name not in required}
    return draw(st.fixed_dictionaries(required, optional=optional))


@st.composite
def valid_events(draw: st.DrawFn) -> Event:
    type_ = draw(st.sampled_from(list(EVENT_TYPES)))
    moment = draw(st.datetimes(datetime(1970, 1, 1), datetime(9998, 12, 31), timezones=st.just(UTC)))
    return Event(draw(ids), type_, draw(ids), moment, draw(data_of(type_)), test=draw(st.booleans()))


# -- any JSON ------------------------------------------------------------------------------------------------

# JSON can have a lone surrogate, and Python's parser accepts NaN and Infinity.
any_text = st.text(st.characters(), max_size=20)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)


@st.composite
def almost_right(draw: st.DrawFn) -> dict[str, Any]:
    """A valid event with some fields replaced."""
    type_ = draw(st.sampled_from(list(EVENT_TYPES)))
    data: dict[str, Any] = draw(data_of(type_))
    data |= draw(st.dictionaries(st.sampled_from(list(data)) | any_text, any_json, max_size=2))
    fields: dict[str, Any] = {**POSTED, "type": type_, "data": data}
    names = st.sampled_from([*fields, "traceParent"]) | any_text
    return fields | draw(st.dictionaries(names, any_json, max_size=2))


def wrong_fields(fields: dict[str, Any]) -> set[str]:
    with pytest.raises(Invalid) as wrong:
        parse_event(fields, default_id="evt_minted", now=NOW)
    return {error.field for error in wrong.value.errors}


# -- the body ------------------------------------------------------------------------------------------------


def test_the_body_is_the_documented_example_byte_for_byte() -> None:
    assert render(parse_event(POSTED, default_id="evt_minted", now=NOW)) == (
        b'{"id":"evt_01HYX9K2M3N4P5Q6R7S8T9V0W1","type":"session.completed",'
        b'"createdAt":"2026-04-10T14:32:00Z","data":{"sessionId":"sess_abc123","packageId":"pkg_def456",'
        b'"dispatchId":"dsp_ghi789","learnerId":"learner-42","completionStatus":"completed",'
        b'"successStatus":"passed","scoreRaw":92,"scoreMax":100,"totalTime":"PT12M34S"}}'
    )


def test_whole_numbers_are_written_as_integers() -> None:
    scores = {"scoreRaw": 92.0, "scoreMin": -0.0, "scoreMax": 100.5, "scoreScaled": 1.0}
    body = render(event(data={**EXAMPLE, **scores}))
    assert b'"scoreRaw":92,' in body
    assert b'"scoreMin":0,' in body
    assert b'"scoreMax":100.5,' in body
    assert b'"scoreScaled":1}' in body


def test_absent_values_are_left_out() -> None:
    data = {name: value for name, value in EXAMPLE.items() if name not in ("dispatchId", "scoreRaw")}
    body = render(event(data=data))
    assert b"null" not in body
    assert b"dispatchId" not in body


def test_only_a_test_event_has_the_test_field() -> None:
    assert b"test" not in render(event())
    assert json.loads(render(event(test=True)))["test"] is True


def test_names_in_any_script_are_sent_as_utf_8() -> None:
    assert "Зоя 学习者".encode() in render(event(data={**EXAMPLE, "learnerId": "Зоя 学习者"}))


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=-700_000)])
def test_a_clock_may_be_a_day_ahead(ahead: timedelta) -> None:
    assert check_event(event(occurred_at=NOW + ahead), NOW)


@pytest.mark.parametrize("at", [NOW + timedelta(days=1, microseconds=1), datetime.max.replace(tzinfo=UTC)])
def test_an_event_of_a_time_to_come_is_named(at: datetime) -> None:
    with pytest.raises(Invalid, match="createdAt: must not be more than a day ahead"):
        check_event(event(occurred_at=at), NOW)
    with pytest.raises(Invalid) as raised:
        parse_event({**POSTED, "createdAt": at.isoformat(), "id": "a b"}, default_id="evt_1", now=NOW)
    assert {error.field for error in raised.value.errors} == {"id", "createdAt"}


@given(valid_events())
def test_every_valid_event_is_valid_json_in_utf_8(event: Event) -> None:
    payload = json.loads(render(check_event(event, event.occurred_at)).decode())
    assert payload["id"] == event.id
    assert payload["data"] == event.data
    assert None not in payload["data"].values()


@given(valid_events())
def test_an_event_is_always_rendered_to_the_same_bytes(event: Event) -> None:
    assert render(event) == render(event)


# -- invalid events -----------------------------------------------------------------------------------------


@given(almost_right() | st.dictionaries(any_text, any_json, max_size=5))
def test_any_json_is_an_event_or_a_clear_error(fields: dict[str, Any]) -> None:
    try:
        said = render(parse_event(fields, default_id="evt_minted", now=NOW)).decode()
    except Invalid as invalid:
        said = json.dumps([error.message for error in invalid.errors])
    assert json.loads(said)


def test_an_event_without_an_id_gets_one() -> None:
    posted = {name: value for name, value in POSTED.items() if name != "id"}
    assert parse_event(posted, default_id="evt_minted", now=NOW).id == "evt_minted"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "with.dot"),
        ("id", None),
        ("type", "session.exploded"),
        ("createdAt", "yesterday"),
        ("createdAt", "2026-04-10T14:32:00"),
        ("createdAt", 1775831520),
        ("accountId", ""),
        ("data", None),
        ("data", [1, 2]),
        ("traceParent", "00-not-a-trace"),
        ("database", "is no field"),
    ],
)
def test_each_invalid_field_is_named(field: str, value: Any) -> None:
    assert wrong_fields({**POSTED, field: value}) == {field}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sessionId", "a b"),
        ("sessionId", 7),
        ("learnerId", ""),
        ("learnerId", "\ud800"),
        ("scoreRaw", True),
        ("scoreRaw", "92"),
        ("scoreRaw", float("nan")),
        ("scoreRaw", 10**400),
        ("scoreRaw", 2**53 + 1),
        ("scoreRaw", -1e300),
        ("scoreScaled", 1.01),
        ("completionStatus", "Completed"),
        ("successStatus", ["passed"]),
        ("totalTime", "12:34"),
        ("totalTime", "PT"),
        ("totalTime", None),
        ("colour", "red"),
    ],
)
def test_each_invalid_field_of_the_data_is_named(field: str, value: Any) -> None:
    assert wrong_fields({**POSTED, "data": {**EXAMPLE, field: value}}) == {f"data.{field}"}


@pytest.mark.parametrize("since", ["soon", 1775831520, f"2026-04-10T14:32:00.{'0' * MAX_TIME_CHARACTERS}Z"])
def test_an_invalid_time_in_the_data_is_named(since: Any) -> None:
    recovered = {**POSTED, "type": "webhook.recovered", "data": {"webhookId": "wh_crm", "since": since}}
    assert wrong_fields(recovered) == {"data.since"}


def test_too_many_fields_are_one_error() -> None:
    fields = {f"field{number}": 1 for number in range(MAX_REQUEST_FIELDS + 1)}
    assert wrong_fields({**POSTED, **fields}) == {"body"}
    assert wrong_fields({**POSTED, "data": fields}) == {"data"}


def test_all_invalid_fields_are_named_together() -> None:
    fields = {"id": "a.b", "type": "session.launched", "data": {"sessionId": 7}, "database": 1}
    assert wrong_fields(fields) == {
        "id",
        "accountId",
        "createdAt",
        "database",
        "data.sessionId",
        "data.packageId",
        "data.learnerId",
    }


def test_an_unknown_field_is_named_when_data_is_not_an_object() -> None:
    assert wrong_fields({**POSTED, "data": 1, "database": 1}) == {"data", "database"}


def test_a_score_has_a_raw_or_a_scaled_value() -> None:
    session = {name: EXAMPLE[name] for name in ("sessionId", "packageId", "learnerId")}
    scored = {**POSTED, "type": "session.scored"}
    assert wrong_fields({**scored, "data": {**session, "scoreMax": 100}}) == {"data.scoreRaw"}
    parse_event({**scored, "data": {**session, "scoreScaled": 0.5}}, default_id="evt_minted", now=NOW)


@pytest.mark.parametrize("percent", [80, 100])
def test_a_threshold_is_80_or_100_percent(percent: int) -> None:
    data: dict[str, Any] = {"period": "2026-04", "launches": 800, "limit": 1000, "thresholdPercent": percent}
    threshold = {**POSTED, "type": "usage.threshold", "data": data}
    parse_event(threshold, default_id="evt_minted", now=NOW)
    assert wrong_fields({**threshold, "data": {**data, "thresholdPercent": 90}}) == {"data.thresholdPercent"}
    assert wrong_fields({**threshold, "data": {**data, "period": "2026-13"}}) == {"data.period"}
    assert wrong_fields({**threshold, "data": {**data, "launches": -1}}) == {"data.launches"}


def test_a_number_of_launches_fits_into_sql() -> None:
    data = {"period": "2026-04", "launches": 0, "limit": 2**63 - 1, "thresholdPercent": 80}
    threshold = {**POSTED, "type": "usage.threshold", "data": data}
    parse_event(threshold, default_id="evt_minted", now=NOW)
    assert wrong_fields({**threshold, "data": {**data, "launches": 2**63}}) == {"data.launches"}


# -- times and keys ------------------------------------------------------------------------------------------


def test_times_are_written_in_utc_and_to_the_millisecond() -> None:
    berlin = timezone(timedelta(hours=2))
    assert format_time(datetime(2026, 4, 10, 16, 32, tzinfo=berlin)) == "2026-04-10T14:32:00Z"
    assert format_time(datetime(2026, 4, 10, 14, 32, 0, 250999, UTC)) == "2026-04-10T14:32:00.250Z"


@given(st.datetimes(timezones=st.just(UTC)))
def test_a_time_is_parsed_as_it_was_written(moment: datetime) -> None:
    read = parse_time(format_time(moment))
    assert read is not None
    assert moment - read < timedelta(milliseconds=1)


@pytest.mark.parametrize(
    "text",
    [
        None,
        7,
        "",
        "2026-04-10",
        "0001-01-01T00:00:00+23:59",
        "9999-12-31T23:59:60Z",
        "\ud800",
        "2026-W15-5T14:32:00Z",
        "20260410T143200Z",
        "2026-04-10 14:32:00Z",
        "2026-04-10x14:32:00Z",
        "2026-04-10T14:32Z",
        "2026-04-10T14:32:00",
        "2026-04-10T14:32:00+02",
        "2026-04-10T14:32:00+0200",
        "2026-04-10T14:32:00+02:00:30",
        "2026-04-10T14:32:00+24:00",
        "2026-04-10T14:32:00,5Z",
        "2026-04-10T14:32:00.Z",
        "2026-04-10T24:00:00Z",
        "2026-04-31T00:00:00Z",
        "2026-04-10T14:32:60Z",
        "2026-04-10T14:32:00Z\n",
        " 2026-04-10T14:32:00Z",
        "２０２６-04-10T14:32:00Z",
        "-2026-04-10T14:32:00Z",
    ],
)
def test_other_times_are_not_parsed(text: Any) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-04-10T14:32:00Z", "2026-04-10T14:32:00+00:00"),
        ("2026-04-10t14:32:00z", "2026-04-10T14:32:00+00:00"),
        ("2026-04-10T16:32:00+02:00", "2026-04-10T14:32:00+00:00"),
        ("2026-04-10T14:32:00-00:00", "2026-04-10T14:32:00+00:00"),
        ("2026-04-10T14:32:00.5Z", "2026-04-10T14:32:00.500000+00:00"),
        ("2026-04-10T14:32:00.1234567899Z", "2026-04-10T14:32:00.123456+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("1990-12-31T15:59:60.25-08:00", "1991-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_of_rfc_3339_is_parsed(text: str, utc: str) -> None:
    moment = parse_time(text)
    assert moment is not None
    assert moment.isoformat() == utc


def test_events_of_a_session_share_a_partition_key() -> None:
    assert partition_key(event()) == "sess_abc123"
    assert partition_key(event(type="package.updated", data={"packageId": "pkg_1", "version": "2"})) == "pkg_1"
    assert partition_key(event(type="usage.threshold", data={"period": "2026-04"})) == "acme"


# -- subjects ------------------------------------------------------------------------------------------------


def test_the_subjects_of_an_event() -> None:
    data = {"sessionId": "sess_1", "learnerId": "Ada ☃", "packageId": "pkg_1", "dispatchId": "dsp_1"}
    assert subjects_of_event(event(data=data)) == EventSubjects("sess_1", "Ada ☃", "pkg_1", "dsp_1")
    assert subjects_of_event(event(data={"sessionId": "sess_1"})) == EventSubjects("sess_1")


def test_a_learner_that_sql_cannot_store_is_left_out() -> None:
    assert subjects_of_event(event(data={"sessionId": "sess_1", "learnerId": "a\0b"})) == EventSubjects("sess_1")


def test_a_field_that_is_null_says_to_leave_it_out() -> None:
    with pytest.raises(Invalid) as wrong:
        parse_event({**POSTED, "data": {**POSTED["data"], "dispatchId": None}}, default_id="evt_1", now=NOW)
    assert str(wrong.value.errors[0]) == "data.dispatchId: must not be null: leave it out"


# -- metadata ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ("sales", "must be an object of texts"),
        ({f"name{number}": "" for number in range(21)}, "must have at most 20 pairs"),
        ({"": "sales"}, "names of 1 to 64 characters"),
        ({"n" * 65: "sales"}, "names of 1 to 64 characters"),
        ({"department": 7}, '"department" must be a text'),
        ({"department": "s" * 501}, '"department" must be a text of at most 500 characters'),
        ({"department": "a\nb"}, "without control characters"),
        ({"department": "\ud800"}, "without control characters"),
    ],
)
def test_wrong_metadata_says_which_pair(metadata: Any, problem: str) -> None:
    with pytest.raises(Invalid) as wrong:
        parse_event({**POSTED, "data": {**POSTED["data"], "metadata": metadata}}, default_id="evt_1", now=NOW)
    [error] = wrong.value.errors
    assert error.field == "data.metadata"
    assert problem in error.message


def test_empty_metadata_is_left_out_of_the_body() -> None:
    event = parse_event({**POSTED, "data": {**POSTED["data"], "metadata": {}}}, default_id="evt_1", now=NOW)
    assert b"metadata" not in render(event)


def test_the_order_of_metadata_does_not_change_the_body() -> None:
    """A producer that publishes an event again may have its pairs in another order: it is the same event."""
    bodies = {
        render(parse_event({**POSTED, "data": {**POSTED["data"], "metadata": pairs}}, default_id="evt_1", now=NOW))
        for pairs in ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    }
    assert len(bodies) == 1
