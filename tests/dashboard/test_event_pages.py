"""A person sees what came in, also what no webhook wanted, and tries a filter on it."""

import re
from html import unescape
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, Page

from builders import EXAMPLE, delivery, event
from rest.api_fixture import ApiFixture
from streams.adapters.avro.codec import AvroCodec
from streams.core.events.event import render
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS

pytestmark = pytest.mark.slow

PASSED = '{"successStatus": "passed"}'


def publish(api: ApiFixture, event_id: str, account: str = "acme", **data: Any) -> None:
    one = event(id=event_id, account_id=api.clients[account].account_id, data={**EXAMPLE, **data})
    api.kafka.append(Outgoing(SESSION_EVENTS, b"key", AvroCodec().encode(one)))


def rows_of(page: Page) -> dict[str, str]:
    """What the page says of each event, by its id."""
    rows = re.findall(r"<tr>\s*<td class=\"event\">.*?</tr>", page.html, re.DOTALL)
    rows = [re.sub(r'<div class="hint">.*?</div>', "", row, flags=re.DOTALL) for row in rows]
    texts = [" ".join(unescape(re.sub(r"<[^>]*>", " ", row)).split()) for row in rows]
    return {text.split()[1]: " ".join(text.split()[3:]) for text in texts}


async def test_an_event_is_there_before_the_first_webhook(api: ApiFixture, browser: FakeBrowser) -> None:
    assert "There are no events yet." in (await browser.open("/events")).text
    publish(api, "evt_1")
    publish(api, "evt_other", account="globex")
    assert rows_of(await browser.open("/events")) == {"evt_1": "none: the account has no webhook"}


async def test_an_event_names_the_webhooks_that_want_it(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1")
    await api.acme.webhook(description="Scores", events=["session.scored"])
    assert rows_of(await browser.open("/events")) == {"evt_1": "none: no webhook takes this type"}
    await api.acme.webhook(description="Failed", filter={"successStatus": "failed"})
    [row] = rows_of(await browser.open("/events")).values()
    assert row == 'none: the filter of no webhook takes it: successStatus is "passed", not "failed"'
    for number in range(5):
        await api.acme.webhook(description=f"CRM {number}")
    [row] = rows_of(await browser.open("/events")).values()
    assert re.fullmatch(r"CRM \d, CRM \d, CRM \d and 2 more", row)


async def test_an_event_says_who_did_what(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1", learnerId="ada", packageId="course-1", successStatus="unknown", scoreRaw=92.5)
    page = await browser.open("/events")
    assert "ada · course-1 · completed · score 92.5" in " ".join(page.text.split())


async def test_no_webhook_gets_an_event_about_itself(api: ApiFixture, browser: FakeBrowser) -> None:
    known = await api.acme.webhook(events=["webhook.failing"])
    data = {"webhookId": known["id"], "url": "https://crm.example.com/", "failures": 2, "since": "2026-04-10T12:00:00Z"}
    one = event(id="evt_1", type="webhook.failing", account_id=api.acme.account_id, data=data)
    api.kafka.append(Outgoing(SESSION_EVENTS, b"key", AvroCodec().encode(one)))
    assert rows_of(await browser.open("/events")) == {"evt_1": "none: no webhook gets an event about itself"}


async def test_a_filter_may_be_tried_in_rows(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1", scoreRaw=92)
    publish(api, "evt_2", scoreRaw=40)
    row = "filter_name=scoreRaw&filter_condition=gte&filter_value=80"
    page = await browser.open(f"/events?filter=&filter_before=&{row}&filter_name=&filter_condition=eq&filter_value=")
    assert {name: text.split(" ")[0] for name, text in rows_of(page).items()} == {"evt_1": "yes", "evt_2": "no:"}
    # What was typed stays, as rows and as JSON, and may be changed.
    assert 'name="filter_value" value="80"' in page.html
    [link] = re.findall(r'href="(/webhooks/new\?filter=[^"]+)"', page.html)
    assert "{&#34;scoreRaw&#34;: {&#34;gte&#34;: 80}}" in (await browser.open(link)).html
    wrong = await browser.open("/events?filter=&filter_before=&filter_name=&filter_condition=gte&filter_value=80")
    assert (wrong.status, "must have a field beside" in wrong.text) == (422, True)
    assert 'name="filter_value" value="80"' in wrong.html


async def test_a_filter_is_tried_and_becomes_a_webhook(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1")
    publish(api, "evt_2", successStatus="failed")
    page = await browser.open(f"/events?filter={PASSED}")
    assert "1 of 2 match." in page.text
    rows = rows_of(page)
    assert rows["evt_1"].startswith("yes")
    assert rows["evt_2"].startswith('no: successStatus is "failed", not "passed"')
    [link] = re.findall(r'href="(/webhooks/new\?filter=[^"]+)"', page.html)
    form = await browser.open(link)
    assert "{&#34;successStatus&#34;: &#34;passed&#34;}" in form.html


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ('{"lesson": 1}', "is not a field of an event type"),
        ('{"scoreRaw": {"above": 1}}', "is not an operator"),
    ],
)
async def test_a_wrong_filter_is_named_beside_the_events(
    api: ApiFixture, browser: FakeBrowser, text: str, message: str
) -> None:
    publish(api, "evt_1")
    page = await browser.open(f"/events?filter={text}")
    assert page.status == 422
    assert message in page.text
    assert "evt_1" in page.text


async def test_without_kafka_delivered_events_are_there(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1")
    one = event(id="evt_2", account_id=api.acme.account_id, data=EXAMPLE)
    await api.record(delivery(event_id=one.id, account_id=one.account_id, body=render(one)))
    api.history.away = True
    page = await browser.open("/events")
    assert set(rows_of(page)) == {"evt_2"}
    assert "Kafka does not answer: events that no webhook got are missing." in page.text


async def test_an_erased_learners_event_is_not_shown(api: ApiFixture, browser: FakeBrowser) -> None:
    publish(api, "evt_1", learnerId="learner-erased")
    publish(api, "evt_2", learnerId="learner-kept")
    await api.acme.post("/v1/learners/erase", {"learnerId": "learner-erased"})
    assert set(rows_of(await browser.open("/events"))) == {"evt_2"}
