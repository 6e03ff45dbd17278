"""A person decides about dead letters on pages: what each was given up for, and what a retry can send."""

from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from dashboard.pages import FakeBrowser

from builders import attempt, dead_letter, delivery
from rest.api_fixture import ApiFixture
from streams.core.deliveries.delivery import DeathReason, HoldReason, Trigger
from streams.core.deliveries.outcome import OutcomeKind
from streams.features.deliveries import search


async def dead(api: ApiFixture, webhook_id: str, *event_ids: str, reason: DeathReason = DeathReason.EXHAUSTED) -> None:
    mine = {"account_id": api.acme.account_id, "webhook_id": webhook_id}
    letters = [delivery(**mine, event_id=event_id, step=7, attempt=7) for event_id in event_ids]
    await api.record(*(dead_letter(delivery=letter, reason=reason) for letter in letters))


async def with_a_deleted_one(api: ApiFixture) -> tuple[str, str]:
    """A webhook with a dead letter, and a deleted one with two; their ids."""
    crm, old = await api.acme.webhook(description="CRM"), await api.acme.webhook(description="Old CRM")
    await dead(api, crm["id"], "evt_1")
    await dead(api, old["id"], "evt_2", "evt_3", reason=DeathReason.DELETED)
    await api.acme.delete(f"/v1/webhooks/{old['id']}")
    return crm["id"], old["id"]


async def test_a_retry_counts_deleted_webhooks_first(api: ApiFixture, browser: FakeBrowser) -> None:
    crm, old = await with_a_deleted_one(api)
    page = await browser.open("/dead-letters/preview?act=retry&every=1")
    assert "3 dead letters match, of 2 webhooks" in page.text
    assert "2 of them belong to deleted webhooks and cannot be sent. They stay dead letters." in page.text
    assert "Retry 1 " in page.text
    page = await browser.open(f"/dead-letters/preview?act=retry&every=1&webhook={old}")
    assert "All belong to a deleted webhook and cannot be sent." in page.text
    assert "<button" not in page.html.partition("<main")[2].partition("</main>")[0]
    page = await browser.open(f"/dead-letters/preview?act=retry&every=1&webhook={crm}")
    assert "deleted" not in page.text
    page = await browser.open("/dead-letters/preview?act=discard&every=1")
    assert "Discard 3 " in page.text
    assert "cannot be sent" not in page.text


async def test_the_filter_has_deleted_webhooks(api: ApiFixture, browser: FakeBrowser) -> None:
    crm, old = await with_a_deleted_one(api)
    await api.acme.webhook(description="Without dead letters")
    page = await browser.open("/dead-letters")
    assert f'<option value="{crm}">CRM (1)</option>' in page.html
    assert f'<option value="{old}">Old CRM, deleted (2)</option>' in page.html
    page = await browser.open(f"/dead-letters?webhook={old}")
    assert f'<option value="{old}" selected>Old CRM, deleted' in page.html
    assert "evt_1" not in page.text


async def test_the_filter_finds_dead_letters_behind_newer_deliveries(
    api: ApiFixture, browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_SAMPLED_DELIVERIES", 3)
    crm, old = await with_a_deleted_one(api)
    later = api.clock.now() + timedelta(hours=1)
    mine = {"account_id": api.acme.account_id, "webhook_id": crm, "first_seen_at": later}
    await api.record(*(delivery(**mine, event_id=f"evt_later_{number}") for number in range(3)))
    page = await browser.open("/dead-letters")
    assert f'<option value="{crm}">CRM' in page.html
    assert f'<option value="{old}">Old CRM, deleted' in page.html


async def test_an_act_on_an_empty_list_says_so(browser: FakeBrowser) -> None:
    assert "Nothing is checked." in (await browser.open("/dead-letters/preview?act=retry")).text


@pytest.mark.parametrize("act", ["retry", "discard"])
async def test_an_act_on_nothing_stays_on_the_list(api: ApiFixture, browser: FakeBrowser, act: str) -> None:
    made = await api.acme.webhook()
    await dead(api, made["id"], "evt_1", reason=DeathReason.KEPT)
    await dead(api, made["id"], "evt_2")
    for page in (
        await browser.open(f"/dead-letters/preview?act={act}&webhook=&reason=kept"),
        await browser.send("/dead-letters", act=act, reason="kept"),
    ):
        assert page.status == 422
        assert "Nothing is checked. Check dead letters, or choose all that match the filter." in page.text
        assert "evt_1" in page.text
        assert "evt_2" not in page.text


async def test_an_act_on_nothing_stays_on_its_page(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await dead(api, made["id"], *(f"evt_{number:03}" for number in range(120)))
    second = unescape((await browser.open("/dead-letters")).html.partition('<p><a href="')[2].partition('"')[0])
    page = await browser.open(second)
    [after] = [value for name, value in [part.split("=") for part in second.partition("?")[2].split("&")] if name]
    again = await browser.open(f"/dead-letters/preview?{urlencode({'act': 'retry', 'after': after})}")
    assert page.html.count('name="id"') == again.html.count('name="id"') == 50
    assert 'href="/dead-letters?after=' in again.html
    assert f'name="after" value="{after}"' in page.html


async def test_a_reason_is_a_sentence_on_every_page(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await dead(api, made["id"], "evt_1")
    page = await browser.open("/dead-letters")
    assert "All 6 attempts failed." in page.text
    assert '<option value="exhausted">All attempts failed.</option>' in page.html
    letter = delivery(**mine, event_id="evt_1")
    assert "All 6 attempts failed." in (await browser.open(f"/deliveries/{letter.id}")).text
    held = delivery(**mine, event_id="evt_2").to_held(HoldReason.PAUSED, "pause_1", is_attempted=False)
    await api.record(held)
    for path in ("/", "/deliveries?state=dead", "/deliveries?reason=exhausted"):
        assert "All 6 attempts failed." in (await browser.open(path)).text, path
    assert "All attempts failed. × remove" in (await browser.open("/deliveries?reason=exhausted")).text
    assert "The webhook is paused." in (await browser.open("/deliveries?state=held")).text


async def test_a_test_event_is_not_retried(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"], "trigger": Trigger.TEST}
    sent = delivery(**mine)
    await api.record(sent, attempt(**mine, outcome=OutcomeKind.SERVER_ERROR, status=500))
    page = await browser.open(f"/deliveries/{sent.id}")
    assert "A test event is not retried." in page.text
    assert "/retry" not in page.html


async def test_what_no_webhook_takes_has_no_retry(api: ApiFixture, browser: FakeBrowser) -> None:
    _, old = await with_a_deleted_one(api)
    letter = delivery(account_id=api.acme.account_id, webhook_id=old, event_id="evt_2")
    page = await browser.open(f"/deliveries/{letter.id}")
    assert "Old CRM, deleted" in page.text
    assert "Its webhook was deleted. It cannot be sent again." in page.text
    assert f'href="/webhooks/{old}' not in page.html
    assert "/retry" not in page.html
