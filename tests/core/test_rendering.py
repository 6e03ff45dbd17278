"""The body that a webhook gets: the event's bytes, or the fields that its settings choose."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import event
from streams.core.deliveries.rendering import render_body
from streams.core.errors import InvalidRecord
from streams.core.events.event import render
from streams.core.events.event_data import FIELD_NAMES
from streams.features.webhooks.samples import sample_event

DATA = {
    "sessionId": "sess_1",
    "learnerId": "Åsa 🎓 \u2028",
    "scoreScaled": 0.1,
    "launches": 2**63 - 1,
    "metadata": {"cost.center": "7", "department": "sales"},
}
BODY = render(event(data=DATA))
paths = st.lists(st.sampled_from([*DATA, "metadata.department", "metadata.cost.center", "metadata.x", "title"]))


def sent_data(*fields: str) -> Any:
    return json.loads(render_body(BODY, fields))["data"]


def test_a_webhook_without_fields_gets_the_same_bytes() -> None:
    assert render_body(BODY, None) is BODY
    assert render_body(b"not JSON", None) == b"not JSON"


@given(paths)
def test_what_is_chosen_is_sent_and_nothing_else(fields: list[str]) -> None:
    sent, whole = json.loads(render_body(BODY, fields)), json.loads(BODY)
    assert {name: value for name, value in sent.items() if name != "data"} == {
        name: value for name, value in whole.items() if name != "data"
    }
    assert sent["data"].keys() <= DATA.keys()
    for name, value in DATA.items():
        pairs = {path.partition(".")[2] for path in fields if path.startswith("metadata.")}
        if name in fields:
            assert sent["data"][name] == value
        elif name == "metadata" and isinstance(value, dict):
            assert sent["data"].get(name, {}) == {pair: text for pair, text in value.items() if pair in pairs}
        else:
            assert name not in sent["data"]


@given(paths)
def test_the_same_settings_give_the_same_bytes(fields: list[str]) -> None:
    assert render_body(BODY, fields) == render_body(BODY, fields[::-1])
    assert render_body(render_body(BODY, fields), fields) == render_body(BODY, fields)


@pytest.mark.parametrize("event_type", ["session.completed", "session.ended", "usage.threshold", "package.updated"])
def test_all_fields_give_the_bytes_of_the_event(event_type: str) -> None:
    body = render(sample_event(event_type, "evt_1", "acme", event().occurred_at))
    assert render_body(body, sorted(FIELD_NAMES)) == body
    assert render_body(BODY, sorted(DATA)) == BODY


def test_a_pair_of_metadata_may_have_a_dot_in_its_name() -> None:
    assert sent_data("metadata.cost.center") == {"metadata": {"cost.center": "7"}}
    assert sent_data("metadata.cost") == {}
    assert sent_data("metadata", "metadata.x") == {"metadata": DATA["metadata"]}


@pytest.mark.parametrize(
    "body",
    [
        *(
            b"",
            b"\xff",
            b"[]",
            b"7",
            b'{"id": "evt_1"}',
            b'{"data": [1]}',
            b'{"data": null}',
            b'{"data": ' + b"[" * 60_000,
        ),
        b'{"data": {"sessionId": NaN}}',
        b'{"data": {"sessionId": "\\ud800"}}',
        b'{"data": {"sessionId": ' + b"9" * 5000,
    ],
)
def test_a_body_without_fields_is_refused_and_not_quoted(body: bytes) -> None:
    with pytest.raises(InvalidRecord, match=r"no `data` to choose fields of \(\w+\)$"):
        render_body(body, ["sessionId"])
