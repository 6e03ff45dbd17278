"""A person sends all deliveries again that match the filter of the list."""

import re
from html import unescape

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in

from builders import attempt
from rest.api_fixture import ApiFixture
from rest.test_bulk_retries import delivered, one_in_each_state
from rest.test_deliveries import dead_letter, finish, ids, known_as, waiting_delivery

LINK = re.compile(r'href="(/deliveries/retry\?[^"]*)">Send all that match again…')


async def preview_from(browser: FakeBrowser, list_path: str) -> Page:
    """The preview to which the list leads."""
    found = LINK.search((await browser.open(list_path)).html)
    assert found, list_path
    return await browser.open(unescape(found[1]))


async def test_all_that_match_are_previewed_confirmed_and_sent(api: ApiFixture, browser: FakeBrowser) -> None:
    webhook = (await api.acme.webhook(description="CRM"))["id"]
    await one_in_each_state(api, webhook)
    page = await preview_from(browser, f"/deliveries?webhook={webhook}&since=2026-04-10T12:00:00Z")
    assert "2 deliveries match, of 1 webhook; the oldest was first seen 10 Apr 2026, 12:00:01 UTC." in page.text
    assert "Delivered ones, dead letters and discarded ones. Held and waiting ones are not part of it" in page.text
    assert "Receivers get delivered ones once more, with the same webhook-id" in page.text
    assert await ids(api, "/v1/deliveries", state="held") == ["evt_5"]
    # What becomes delivered after the count is not sent again.
    late = await waiting_delivery(api, 61, webhook_id=webhook)
    await api.record(attempt(**known_as(late)), at=late.first_seen_at)
    api.clock.advance(60)
    job_page = await browser.confirm(page)
    assert "Send again: 2 deliveries" in job_page.text
    assert 'href="/deliveries">Deliveries</a>' in job_page.html
    assert "Cancel" in job_page.text
    job_id = job_page.path.rpartition("/")[2]
    await finish(api, job_id)
    page = await browser.open(job_page.path)
    assert "2 done. Finished." in page.text
    assert await ids(api, "/v1/deliveries", state="held") == ["evt_5", "evt_2", "evt_1"]


async def test_the_same_form_starts_one_job(api: ApiFixture, browser: FakeBrowser) -> None:
    webhook = (await api.acme.webhook())["id"]
    await delivered(api, 1, webhook)
    api.clock.advance(60)
    preview = await preview_from(browser, f"/deliveries?webhook={webhook}")
    first, second = await browser.confirm(preview), await browser.confirm(preview)
    assert first.path == second.path
    assert len(await api.jobs.list_unfinished("")) == 1


@pytest.mark.parametrize(
    ("query", "events"),
    [
        ("state=dead", ["evt_2"]),
        ("state=waiting", ["evt_4"]),
        ("state=delivered&session=s1", ["evt_1"]),
        ("state=waiting&error=timeout", ["evt_4"]),
        ("metadata=department%3Dsales", ["evt_1"]),
        ("type=session.completed", ["evt_1", "evt_2"]),
        ("reason=exhausted", ["evt_2"]),
        ("class=4", []),
    ],
)
async def test_each_filter_of_the_list_is_kept(
    api: ApiFixture, browser: FakeBrowser, query: str, events: list[str]
) -> None:
    webhook = (await api.acme.webhook())["id"]
    await one_in_each_state(api, webhook)
    page = await browser.open(f"/deliveries/retry?{query}")
    if not events:
        assert "There is nothing to send." in page.text
        return
    assert f"{len(events)} deliver" in page.text
    job_page = await browser.confirm(page)
    await finish(api, job_page.path.rpartition("/")[2])
    held = await ids(api, "/v1/deliveries", state="held")
    assert sorted(set(held) - {"evt_5"}) == events


async def test_a_capped_count_says_that_all_are_sent(
    api: ApiFixture, browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.features.deliveries.search.MAX_COUNTED_DELIVERIES", 2)
    webhook = (await api.acme.webhook())["id"]
    for number in range(3):
        await delivered(api, number, webhook)
    api.clock.advance(60)
    page = await preview_from(browser, "/deliveries?state=delivered")
    assert "2+ deliveries match, of at least 1 webhook" in page.text
    assert "The count stopped there: there are more, and all are sent." in page.text
    assert "Send all again" in page.text
    assert "Send again: 3 deliveries" in (await browser.confirm(page)).text


async def test_deleted_webhooks_are_counted_first(api: ApiFixture, browser: FakeBrowser) -> None:
    crm, old = [(await api.acme.webhook())["id"] for _ in range(2)]
    await delivered(api, 1, crm)
    await delivered(api, 2, old)
    await api.acme.delete(f"/v1/webhooks/{old}")
    api.clock.advance(60)
    page = await browser.open("/deliveries/retry?state=delivered")
    assert "1 of them belongs to deleted webhooks and cannot be sent." in page.text
    assert "Send 1 again" in page.text
    page = await browser.open(f"/deliveries/retry?webhook={old}")
    assert "All belong to a deleted webhook and cannot be sent." in page.text
    assert "<button" not in page.html.partition("<main")[2].partition("</main>")[0]


async def test_a_list_that_cannot_be_sent_again_says_why(api: ApiFixture, browser: FakeBrowser) -> None:
    webhook = (await api.acme.webhook())["id"]
    await one_in_each_state(api, webhook)
    # Without a filter it would be everything.
    assert "Send all that match again" not in (await browser.open("/deliveries")).text
    page = await browser.open("/deliveries?state=held")
    assert "Held ones are sent without a retry" in page.text
    assert "Send all that match again" not in page.text
    for query, words in (("state=held", "held deliveries are sent without a retry"), ("", "must have a field")):
        page = await browser.open(f"/deliveries/retry?{query}")
        assert page.status == 422
        assert words in page.text
    assert (await browser.send("/deliveries/retry", state="dead", counted="soon")).status == 422


async def test_a_viewer_sends_nothing_again(api: ApiFixture) -> None:
    webhook = (await api.acme.webhook())["id"]
    await delivered(api, 1, webhook)
    viewer = await signed_in(api, "viewer")
    assert "Send all that match again" not in (await viewer.open("/deliveries?state=delivered")).text
    assert (await viewer.open("/deliveries/retry?state=delivered")).status == 403
    await viewer.close()


async def test_dead_letters_after_the_count_are_not_sent(api: ApiFixture, browser: FakeBrowser) -> None:
    webhook = (await api.acme.webhook())["id"]
    await one_in_each_state(api, webhook)
    preview = await browser.open("/dead-letters/preview?act=discard&every=1")
    assert "1 dead letter matches" in preview.text
    await dead_letter(api, 61, webhook_id=webhook)
    api.clock.advance(60)
    assert "1 dead letter" in (await browser.confirm(preview)).text
