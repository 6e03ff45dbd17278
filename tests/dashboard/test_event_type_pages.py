"""A person reads what each event type has, and the body of a test before it is sent."""

import json
import re
from html import unescape
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in

from api.events.catalogue import value_description
from rest.api_fixture import ApiFixture
from streams.core.events.event_data import EVENT_TYPES, OPT_IN_TYPES, data_errors


def shown_json(page: Page, start: str) -> Any:
    """The JSON in the first `pre` after a text of the page."""
    text = page.html.partition(start)[2].partition("</pre>")[0]
    return json.loads(unescape(text.partition("<pre")[2].partition(">")[2]))


async def test_each_type_has_its_fields_and_a_valid_example(browser: FakeBrowser) -> None:
    page = await browser.open("/events/types")
    assert page.status == 200
    for name, fields in EVENT_TYPES.items():
        start = f'<section id="{name}">'
        section = page.html.partition(start)[2].partition("</section>")[0]
        example = shown_json(page, start)
        assert example["type"] == name
        assert data_errors(name, example["data"]) == []
        listed = re.findall(r'<td class="break"><div class="mono">(\w+)</div>', section)
        assert listed == list(fields), name
        optional = [part for part in section.split("<tr>") if "may be absent" in part]
        assert len(optional) == sum(not field.is_required for field in fields.values()), name
        assert ("no: name it" in page.html.partition(f'href="#{name}"')[2].partition("</tr>")[0]) is (
            name in OPT_IN_TYPES
        )


@pytest.mark.parametrize(
    ("event_type", "field", "words"),
    [
        ("session.completed", "sessionId", "id"),
        ("session.completed", "completionStatus", "one of completed, incomplete, not attempted, unknown"),
        ("session.completed", "totalTime", "ISO 8601 duration, such as PT12M34S"),
        ("session.completed", "scoreRaw", "number"),
        ("session.completed", "scoreScaled", "number from -1 to 1"),
        ("session.completed", "metadata", "object of texts, at most 20 pairs"),
        ("session.ended", "lastCommitAt", "time (RFC 3339)"),
        ("session.ended", "sequence", "whole number, 0 or more"),
        ("package.updated", "title", "text of at most 1024 characters"),
        ("usage.threshold", "period", "month, such as 2026-04"),
        ("usage.threshold", "thresholdPercent", "one of 80, 100"),
    ],
)
def test_a_value_is_described_in_words(event_type: str, field: str, words: str) -> None:
    assert value_description(EVENT_TYPES[event_type][field].kind.schema) == words


async def test_the_body_of_a_test_is_shown_before_it_is_sent(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(events=["session.scored"], fields=["scoreRaw", "metadata.department"])
    path = f"/webhooks/{made['id']}"
    assert "Nothing was sent yet." not in (await browser.open(path)).text
    for query, event_type, data in (
        ("type=session.scored", "session.scored", {"scoreRaw": 92, "metadata": {"department": "sales"}}),
        # Without a type: that of the test which the form would send.
        ("type=", "session.scored", {"scoreRaw": 92, "metadata": {"department": "sales"}}),
        ("type=package.updated", "package.updated", {"metadata": {"department": "sales"}}),
    ):
        page = await browser.open(f"{path}?{query}")
        assert f"Nothing was sent yet. The body of a test of {event_type} :" in page.text
        body = shown_json(page, "Nothing was sent yet.")
        assert (body["type"], body["data"], body["test"]) == (event_type, data, True)
        assert f"<option selected>{event_type}</option>" in page.html
        assert json.loads(unescape(page.html.partition('id="test-body" tabindex="0">')[2].partition("<")[0])) == body
    assert (await api.acme.get("/v1/deliveries"))["data"] == []


async def test_a_viewer_sees_bodies_and_sends_no_test(api: ApiFixture) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}"
    viewer = await signed_in(api, "viewer")
    page = await viewer.open(path)
    assert "Your role, viewer, sends no test event." in page.text
    assert ">Send</button>" not in page.html
    assert f'action="{path}/test' not in page.html
    page = await viewer.open(f"{path}?type=session.launched")
    assert "The body of a test of session.launched" in page.text
    assert "Nothing was sent" not in page.text
    await viewer.close()


async def test_an_unknown_type_has_no_preview(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.open(f"/webhooks/{(await api.acme.webhook())['id']}?type=session.finished")
    assert page.status == 422
    assert "must be one of: session.launched" in page.text


async def test_forms_lead_to_the_event_types(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}?type=session.reset"
    for page in ("/events", "/webhooks/new", path):
        assert 'href="/events/types' in (await browser.open(page)).html, page
