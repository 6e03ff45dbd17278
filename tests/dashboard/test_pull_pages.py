"""A person creates and watches a pull webhook, whose readers ask for its events, on pages."""

import asyncio
import re
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in

from builders import delivery
from rest.api_fixture import PUBLIC_URL, URL, ApiFixture
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.delivery import Delivery, HoldReason
from streams.topics import TEST_DELIVERIES

pytestmark = pytest.mark.slow

# What a person may have typed before choosing pull; some of it is wrong.
HIDDEN: dict[str, Any] = {
    "url": "nonsense",
    "fallback_url": "nonsense",
    "headers": "nonsense",
    "no_headers": "1",
    "max_concurrency": "many",
    "timeout_seconds": "soon",
    "retries": "30s",
    "no_retries": "1",
    "pause_failures": "0",
    "on_gone": "ignore",
    "resume": "probe",
    "auth_type": "oauth2",
    "secret_typed": "1",
}


async def pull_webhook(api: ApiFixture, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = await api.acme.post("/v1/webhooks", {"delivery": "pull", **fields})
    return made


async def hold(
    api: ApiFixture, made: dict[str, Any], event_id: str = "evt_1", reason: HoldReason = HoldReason.PULL
) -> Delivery:
    """Record an event that is held for the webhook."""
    owed = delivery(account_id=api.acme.account_id, webhook_id=made["id"], event_id=event_id)
    pause_id = "pause_1" if reason is HoldReason.PAUSED else None
    await api.record(owed.to_held(reason, pause_id, is_attempted=False), at=api.clock.now())
    return owed


async def saved(api: ApiFixture, page: Page) -> dict[str, Any]:
    webhook_id = re.findall(r"/webhooks/(wh_\w+)", page.path)[0]
    made: dict[str, Any] = await api.acme.get(f"/v1/webhooks/{webhook_id}")
    return made


async def test_a_pull_webhook_is_created_without_a_url(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", None, delivery="pull", retention_days="3", **HIDDEN)
    assert "Created. Events wait for readers from now on. Three steps are left." in page.text
    steps = ["1. Put the signing secret into your reader", "2. Pull events, verify and acknowledge", "3. Send a test"]
    assert [step for step in steps if step in page.text] == steps
    made = await saved(api, page)
    assert (made["delivery"], made["retentionDays"], "url" in made) == ("pull", 3, False)
    assert (made["maxConcurrency"], made["hasHeaders"], "auth" in made) == (32, False, False)
    form = await browser.open(f"/webhooks/{made['id']}/edit")
    assert 'value="pull" checked' in form.html
    assert re.search(r'name="retention_days" [^>]*value="3"', form.html)


async def test_a_push_webhook_becomes_a_pull_webhook(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(
        headers={"X-Key": "1"}, fallbackUrl=f"{URL}/2", timeoutSeconds=5, maxConcurrency=8, resume="probe"
    )
    await browser.send(f"/webhooks/{made['id']}/edit", None, delivery="pull", rate_per_second="5", **HIDDEN)
    edited = await api.acme.get(f"/v1/webhooks/{made['id']}")
    assert (edited["delivery"], edited["retentionDays"], edited["ratePerSecond"]) == ("pull", 7, 5)
    assert {"url", "fallbackUrl", "timeoutSeconds"}.isdisjoint(edited)
    assert (edited["hasHeaders"], edited["resume"]) == (False, "manual")
    page = await browser.open(f"/webhooks/{made['id']}")
    assert "Pull webhook since 12:00 , nothing delivered yet." in page.text


async def test_a_pull_webhook_becomes_a_push_webhook(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await pull_webhook(api, retentionDays=3))['id']}/edit"
    refused = await browser.send(path, delivery="push", url="", retention_days="3")
    assert (refused.status, "URL is required" in refused.text) == (422, True)
    edited = await saved(api, await browser.send(path, delivery="push", url=URL, retention_days="soon"))
    assert (edited["delivery"], edited["url"], "retentionDays" in edited) == ("push", URL, False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"delivery": "pull", "retention_days": "31"}, "Retention in days must be a whole number from 1 to 30"),
        ({"delivery": "carrier", "url": URL}, "The choice must be one of: push, pull"),
    ],
)
async def test_a_wrong_choice_is_named(browser: FakeBrowser, fields: dict[str, Any], message: str) -> None:
    page = await browser.send("/webhooks/new", None, **fields)
    assert page.status == 422
    assert message in page.text


async def test_a_form_of_a_pull_webhook_compares_events(browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", None, delivery="pull", compare="1", **HIDDEN)
    assert page.status == 200
    assert 'value="pull" checked' in page.html
    assert "There are no events yet." in page.text


async def test_a_temporary_webhook_says_until_when_it_lives(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api, temporary=True)
    page = await browser.open(f"/webhooks/{made['id']}")
    assert "Temporary, as scorm-webhooks listen makes one: it is deleted at" in page.text


async def test_its_page_says_how_to_pull_and_what_waits(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api, ratePerSecond=5, retentionDays=1, fields=["sessionId"])
    path = f"/webhooks/{made['id']}"
    assert "No event waits for a reader." in (await browser.open(path)).text
    await hold(api, made)
    await hold(api, made, "evt_2")
    page = await browser.open(path)
    assert "Pull webhook: readers ask for its events. 2 events wait until a reader acknowledges them." in page.text
    assert "No reader has acknowledged an event in the last 24 hours. 2 held for readers." in page.text
    assert f"curl -X POST {PUBLIC_URL}/v1{path}/pull" in page.text
    assert f"curl -X POST {PUBLIC_URL}/v1{path}/ack" in page.text
    assert "Fields of data sessionId Rate 5 events a second, 5 at once after a quiet time Retention 1 day" in page.text
    for words in ("Timeout", "Own headers", "Requests at once", "The endpoint has"):
        assert words not in page.text


async def test_every_list_has_a_name_for_it(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api)
    held = await hold(api, made)
    await api.acme.post(f"/v1/webhooks/{made['id']}/pause")
    for path in ("/", "/webhooks", "/deliveries", f"/deliveries/{held.id}", f"/webhooks/{made['id']}/delete"):
        assert re.search(r">\s*(Delete )?Pull webhook\b", (await browser.open(path)).html), path


async def test_a_paused_one_asks_only_about_the_pause(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api)
    path = f"/webhooks/{made['id']}"
    await hold(api, made)
    await browser.send(f"{path}/pause")
    page = await browser.open(path)
    assert "1 event is held, and stays so until you enable the webhook." in page.text
    assert "What becomes of" not in page.text
    await hold(api, made, "evt_2", HoldReason.PAUSED)
    page = await browser.open(path)
    assert "What becomes of the 1 event that came during the pause? Let readers pull them" in page.text
    enabled = await browser.send(f"{path}/enable", held="deliver")
    assert "Enabled. Readers get events again, oldest first." in enabled.text


async def test_a_test_event_waits_for_a_reader(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api)
    path = f"/webhooks/{made['id']}"
    assert "It goes the way of a real event, and waits for a reader." in (await browser.open(path)).text
    sending = asyncio.create_task(browser.send(f"{path}/test"))
    async with asyncio.timeout(10):
        while not (records := api.kafka.topic(TEST_DELIVERIES)):
            await asyncio.sleep(0.01)
    sent = AvroCodec().decode(records[0].value or b"")
    assert isinstance(sent, Delivery)
    await api.record(sent.to_held(HoldReason.PULL, None, is_attempted=False))
    page = await sending
    assert "held It waits until a reader pulls it." in page.text
    assert f'href="/deliveries/{sent.id}"' in page.html
    [item] = (await api.acme.post(f"/v1{path}/pull"))["items"]
    assert item["id"] == sent.id
    held = await browser.open(f"/deliveries/{sent.id}")
    assert "A test event is not retried." not in held.text


async def test_a_delivery_shows_the_leases_of_readers(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await pull_webhook(api)
    path, held = f"/v1/webhooks/{made['id']}", await hold(api, made)
    page = await browser.open(f"/deliveries/{held.id}")
    assert "Next attempt when a reader pulls it" in page.text
    assert "It is held until a reader pulls it." in page.text
    await api.acme.post(f"{path}/pull", {"leaseSeconds": 300})
    page = await browser.open(f"/deliveries/{held.id}")
    assert "A reader has pulled it, and not acknowledged it yet." in page.text
    assert "The next reader may pull it from 10 Apr 2026, 12:05:00 UTC, in 5 min ." in page.text
    api.clock.advance(301)
    assert "It is held until a reader pulls it." in (await browser.open(f"/deliveries/{held.id}")).text
    await api.acme.post(f"{path}/pull")
    api.clock.advance(2)
    await api.acme.post(f"{path}/ack", {"ids": [held.id]})
    page = await browser.open(f"/deliveries/{held.id}")
    lease_ended = "A reader pulled it, and did not acknowledge it before its lease ended."
    assert f"Attempt 1 : 5 min · {lease_ended}" in page.text
    assert "Attempt 2 : 2 000 ms · A reader pulled and acknowledged it." in page.text.replace(
        "\N{NARROW NO-BREAK SPACE}", " "
    )
    timeline = page.html.partition('id="timeline"')[2].partition("</ol>")[0]
    for words in ("POST", "curl", "<pre", "<details"):
        assert words not in timeline
    viewer = await signed_in(api, "viewer")
    assert "sees no headers" not in (await viewer.open(f"/deliveries/{held.id}")).text
    await viewer.close()


async def test_the_code_is_for_items_that_are_pulled(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.open(f"/webhooks/{(await pull_webhook(api))['id']}/code")
    assert "Each item that you pull has the header X-AllureConnect-Signature" in page.text
    assert "then acknowledge the item before its lease ends." in page.text
    assert "Respond with 2xx" not in page.text
