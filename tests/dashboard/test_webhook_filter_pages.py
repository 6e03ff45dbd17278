"""A person gives a webhook a filter, and looks at the latest events before it is saved."""

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import quote

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in
from hypothesis import given
from hypothesis import strategies as st

from api.webhooks.filter_rows import parse_rows, to_rows
from builders import EXAMPLE, NOON, delivery, event
from rest.api_fixture import URL, ApiFixture
from streams.core.deliveries.delivery import Trigger
from streams.core.events.event import render
from streams.features.webhooks import latest_events

pytestmark = pytest.mark.slow


async def delivered(api: ApiFixture, number: int, account: str = "acme", **data: Any) -> None:
    """Store an event with two deliveries."""
    account_id = api.clients[account].account_id
    one = event(id=f"evt_{number}", account_id=account_id, data={**EXAMPLE, **data})
    for webhook_id in ("wh_a", "wh_b"):
        owed = delivery(
            event_id=one.id,
            account_id=account_id,
            webhook_id=webhook_id,
            body=render(one),
            first_seen_at=NOON + timedelta(seconds=number),
        )
        await api.record(owed)


def rows_of(page: Page) -> list[str]:
    """The answer for each event."""
    return re.findall(r"<td class=\"break\">(?:<strong>)?(yes|no: [^<]*)(?:</strong>)?</td></tr>", page.html)


async def test_a_filter_is_saved_shown_and_removed(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", url=URL, filter='{ "successStatus": "passed" }')
    assert '{"successStatus":"passed"}' in page.text
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    path = f"/webhooks/{known['id']}/edit"
    form = await browser.open(path)
    assert '{"successStatus": "passed"}</textarea>' in form.html.replace("&#34;", '"')
    await browser.send(path, url=URL, filter="")
    assert "filter" not in await api.acme.get(f"/v1/webhooks/{known['id']}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "The filter must be JSON: Expecting"),
        ('{"sucessStatus": "x", "scoreRaw": "9"}', "“sucessStatus” is not a field of an event type"),
        ('{"scoreRaw": {"in": []}}', "“scoreRaw” in must be a list of 1 to 50"),
    ],
)
@pytest.mark.parametrize("compare", ["", "1"])
async def test_a_wrong_filter_is_named_at_its_field(browser: FakeBrowser, text: str, words: str, compare: str) -> None:
    page = await browser.send("/webhooks/new", url=URL, filter=text, compare=compare)
    assert page.status == 422
    assert words in page.text


async def test_the_latest_events_say_whether_they_match(api: ApiFixture, browser: FakeBrowser) -> None:
    await delivered(api, 1, successStatus="failed")
    await delivered(api, 2)
    await delivered(api, 3, packageId="pkg_other")
    await delivered(api, 4, account="globex")
    sent: dict[str, Any] = {"filter": '{"successStatus": "passed"}', "packages": "pkg_def456", "once": "once-1"}
    page = await browser.send("/webhooks/new", **sent, compare="1")
    assert (page.status, page.path) == (200, "/webhooks/new")
    assert "1 of 3 match. Nothing is saved yet." in page.text
    assert rows_of(page) == [
        "no: its package and its dispatch are not listed",
        "yes",
        "no: successStatus is &#34;failed&#34;, not &#34;passed&#34;",
    ]
    assert '{"successStatus": "passed"}</textarea>' in page.html.replace("&#34;", '"')
    assert (await api.acme.get("/v1/webhooks"))["data"] == []
    made = await browser.send("/webhooks/new", **sent, url=URL)
    assert made.path.endswith("?new=1")


async def test_an_edit_compares_before_it_saves(api: ApiFixture, browser: FakeBrowser) -> None:
    known = await api.acme.webhook()
    await delivered(api, 1)
    path = f"/webhooks/{known['id']}/edit"
    [version] = re.findall(r'name="version" value="(\d+)"', (await browser.open(path)).html)
    page = await browser.send(path, url=URL, events=["session.launched"], version=version, compare="1", no_headers="1")
    assert rows_of(page) == ["no: the webhook does not take session.completed"]
    assert f'name="version" value="{version}"' in page.html
    assert (await api.acme.get(f"/v1/webhooks/{known['id']}"))["events"] == ["*"]


async def test_an_account_without_events_reads_why(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", compare="1")
    assert "There are no events yet" in page.text


async def test_few_deliveries_are_read(api: ApiFixture, browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        await delivered(api, number)
    test = delivery(account_id=api.acme.account_id, event_id="evt_test", trigger=Trigger.TEST)
    await api.record(test._replace(first_seen_at=NOON + timedelta(hours=1)))
    monkeypatch.setattr(latest_events, "MAX_EVENTS", 2)
    page = await browser.send("/webhooks/new", compare="1")
    assert re.findall(r"event=(evt_\w+)", page.html) == ["evt_4", "evt_3"]
    monkeypatch.setattr(latest_events, "MAX_DELIVERIES_READ", 2)
    page = await browser.send("/webhooks/new", compare="1")
    assert re.findall(r"event=(evt_\w+)", page.html) == ["evt_4"]


async def test_a_viewer_compares_nothing(api: ApiFixture) -> None:
    viewer = await signed_in(api, "viewer")
    assert (await viewer.send("/webhooks/new", compare="1")).status == 403
    await viewer.close()


async def test_no_page_shows_what_turns_or_hides_text(api: ApiFixture, browser: FakeBrowser) -> None:
    odd = "a\u202eb\u2066c\u2069d\x9be\u2028f"
    learner, metadata = f"learner {odd}", {"department": odd.replace("\u2028", ""), f"{odd[:8]}": "x"}
    await delivered(api, 1, learnerId=learner, metadata=metadata)
    wanted = {"learnerId": learner, "metadata.department": "sales"}
    pages = [
        await browser.open("/deliveries"),
        *[await browser.open(f"/deliveries/{row['id']}") for row in (await api.acme.get("/v1/deliveries"))["data"]],
        await browser.open(f"/deliveries?learner={quote(learner)}"),
        await browser.open(f"/deliveries?metadata={quote('department=' + odd)}"),
        await browser.open(f"/deliveries?q={quote(odd)}"),
        await browser.send("/account/learners", learner=learner),
        await browser.send("/webhooks/new", url=URL, filter=json.dumps(wanted), compare="1"),
        await browser.send("/webhooks/new", url=URL, filter=json.dumps({odd: "x"})),
        await browser.open("/account/audit"),
    ]
    for page in pages:
        # What a person typed stays in its field.
        shown = re.sub(r'value="[^"]*"|<textarea.*?</textarea>', "", page.html, flags=re.DOTALL)
        found = re.findall(r".{0,40}[\x7f-\x9f\u2028-\u202e\u2066-\u2069].{0,20}", shown)
        assert found == [], page.path


# -- rows ------------------------------------------------------------------------------------------------------------


def condition(*rows: tuple[str, str, str]) -> dict[str, Any]:
    """Rows of the form, as a browser sends them."""
    names, conditions, values = zip(*rows, strict=True)
    return {"filter_name": names, "filter_condition": conditions, "filter_value": values}


EMPTY_ROW = ("", "eq", "")


async def test_rows_become_a_filter_and_come_back(api: ApiFixture, browser: FakeBrowser) -> None:
    rows = condition(
        ("successStatus", "eq", "passed"),
        ("scoreScaled", "gte", "0.5"),
        ("scoreScaled", "lte", "0.9"),
        ("metadata.department", "in", "sales, hr"),
        ("dispatchId", "absent", ""),
        EMPTY_ROW,
    )
    page = await browser.send("/webhooks/new", url=URL, **rows)
    assert page.status == 200, page.text
    [known] = (await api.acme.get("/v1/webhooks"))["data"]
    expected = {
        "successStatus": "passed",
        "scoreScaled": {"gte": 0.5, "lte": 0.9},
        "metadata.department": {"in": ["sales", "hr"]},
        "dispatchId": {"exists": False},
    }
    assert known["filter"] == expected
    form = await browser.open(f"/webhooks/{known['id']}/edit")
    assert re.findall(r'name="filter_name" value="([^"]+)"', form.html) == [
        *("successStatus", "scoreScaled", "scoreScaled", "metadata.department", "dispatchId"),
    ]
    [before] = re.findall(r'name="filter_before" value="([^"]+)"', form.html)
    [version] = re.findall(r'name="version" value="(\d+)"', form.html)
    # Only the rows change: the JSON of before comes along.
    edited = await browser.send(
        f"/webhooks/{known['id']}/edit",
        url=URL,
        version=version,
        filter=unescape(before),
        filter_before=unescape(before),
        **condition(("scoreRaw", "in", "90, 100")),
    )
    assert edited.status == 200, edited.text
    assert (await api.acme.get(f"/v1/webhooks/{known['id']}"))["filter"] == {"scoreRaw": {"in": [90, 100]}}


async def test_a_filter_that_rows_cannot_show_stays_as_it_is(api: ApiFixture, browser: FakeBrowser) -> None:
    event_filter = {"metadata.city": {"in": ["Paris, France", "Rome"]}}
    known = await api.acme.webhook(filter=event_filter)
    form = await browser.open(f"/webhooks/{known['id']}/edit")
    assert 'name="filter_name"' not in form.html
    assert "change it as JSON" in form.text
    [before] = re.findall(r'name="filter_before" value="([^"]+)"', form.html)
    fields = {"filter": unescape(before), "filter_before": unescape(before), "version": known["version"]}
    assert (await browser.send(f"/webhooks/{known['id']}/edit", url=URL, description="x", **fields)).status == 200
    assert (await api.acme.get(f"/v1/webhooks/{known['id']}"))["filter"] == event_filter


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (condition(("", "eq", "passed")), "must have a field beside “passed”"),
        (condition(("scoreRaw", "gte", "1"), ("scoreRaw", "gte", "2")), "has “is at least” in two rows"),
        (condition(("scoreRaw", "absent", "1")), "takes no value beside “is not there”"),
        (condition(("scoreRaw", "above", "1")), "has no condition &#39;above&#39;"),
        (condition(("scoreRaw", "gte", "many")), "gte is for numbers"),
        (condition(("lesson", "eq", "1")), "is not a field of an event type"),
        (
            {**condition(("scoreRaw", "gte", "1")), "filter": '{"scoreRaw": 2}'},
            "The filter has changes in the rows and in its JSON: change one of both.",
        ),
    ],
)
async def test_a_wrong_row_is_named_and_kept(
    api: ApiFixture, browser: FakeBrowser, fields: dict[str, Any], message: str
) -> None:
    page = await browser.send("/webhooks/new", url=URL, **fields)
    assert page.status == 422
    assert unescape(message) in page.text
    for value in fields["filter_value"]:
        assert f'name="filter_value" value="{value}"' in page.html


async def test_a_row_offers_the_names_of_the_latest_events(api: ApiFixture, browser: FakeBrowser) -> None:
    form = await browser.open("/webhooks/new")
    assert "<option>successStatus</option>" in form.html
    await delivered(api, 1, metadata={"department": "sales"})
    form = await browser.open("/webhooks/new")
    names = re.findall(r"<option>([^<]+)</option>", form.html.partition('<datalist id="filter-names">')[2])
    assert "metadata.department" in names
    assert "sessionId" in names


@given(
    st.dictionaries(
        st.sampled_from(["successStatus", "scoreRaw", "metadata.x", "sessionId"]),
        st.text(max_size=5)
        | st.integers(-9, 9)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.fixed_dictionaries(
            {},
            optional={
                "in": st.lists(st.text(max_size=3) | st.integers(), max_size=3),
                "gte": st.integers(),
                "exists": st.booleans(),
                "eq": st.text(max_size=3),
            },
        ),
        max_size=3,
    )
)
def test_rows_say_a_filter_exactly_or_not_at_all(event_filter: dict[str, Any]) -> None:
    rows = to_rows(event_filter)
    assert not rows or parse_rows([row for row in rows if row.name or row.value]) == (event_filter or None)


async def test_deep_json_in_a_row_is_refused(browser: FakeBrowser) -> None:
    page = await browser.send(
        "/webhooks/new", url=URL, filter_name="scoreRaw", filter_condition="gte", filter_value="[" * 100_000
    )
    assert page.status == 422
    assert "filter.scoreRaw" in page.html or "number" in page.text
