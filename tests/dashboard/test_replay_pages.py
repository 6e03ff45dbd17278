"""An integrator sends a period again, and retries dead letters, on pages: count, confirm, job."""

import re
from datetime import timedelta
from html import unescape
from urllib.parse import urlencode

import pytest
from dashboard.pages import FakeBrowser, Page, signed_in

from builders import NOON, attempt, dead_letter, delivery, event
from rest.api_fixture import ApiFixture
from streams.adapters.avro.codec import AvroCodec
from streams.core.deliveries.outcome import OutcomeKind
from streams.ports.kafka import Outgoing
from streams.topics import SESSION_EVENTS


async def delivered(api: ApiFixture, webhook_id: str, *minutes: int) -> None:
    """Events that were delivered this many minutes before noon."""
    for number in minutes:
        seen = NOON - timedelta(minutes=number)
        known = {"account_id": api.acme.account_id, "webhook_id": webhook_id, "event_id": f"evt_{number}"}
        await api.record(delivery(**known, first_seen_at=seen), attempt(**known, first_seen_at=seen), at=seen)


async def dead(api: ApiFixture, webhook_id: str, *numbers: int) -> list[str]:
    letters = []
    for number in numbers:
        seen = NOON - timedelta(minutes=number)
        known = {"account_id": api.acme.account_id, "webhook_id": webhook_id, "event_id": f"evt_{number}"}
        letters.append(dead_letter(delivery=delivery(**known, step=7, attempt=7, first_seen_at=seen)))
    await api.record(*letters)
    return [letter.delivery.id for letter in letters]


def query(**fields: object) -> str:
    return urlencode(fields, doseq=True)


async def test_a_period_is_counted_confirmed_and_sent(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    await delivered(api, made["id"], 10, 20, 300)
    page = await browser.open(f"/webhooks/{made['id']}")
    assert f'href="/webhooks/{made["id"]}/replay"' in page.html
    path = f"/webhooks/{made['id']}/replay"
    page = await browser.open(path)
    assert "Empty means now" in page.text
    assert "match" not in page.text
    page = await browser.open(f"{path}?{query(since='2026-04-10T11:00', state=['delivered', 'dead'])}")
    assert "2 deliveries match, first seen from 10 Apr 2026, 11:40:00 UTC to 10 Apr 2026, 11:50:00 UTC" in page.text
    assert "About 1 s at the endpoint's pace" in page.text
    job = await browser.confirm(page)
    assert job.path.startswith("/jobs/job_")
    assert "Send again: 2 deliveries" in job.text
    # A second click sends the same form again.
    assert (await browser.confirm(page)).path == job.path
    await api.finish(job.path.removeprefix("/jobs/"))
    page = await browser.open(job.path)
    assert "2 done. Finished." in page.text
    assert "Cancel" not in page.text


async def test_presets_fill_the_period_and_count(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await delivered(api, made["id"], 10, 20 * 60)
    path = f"/webhooks/{made['id']}/replay"
    page = await browser.open(path)
    assert "since the first failure" not in page.text
    assert main_buttons(page) == ["Count"]
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"], "event_id": "evt_lost"}
    await api.record(attempt(**mine, outcome=OutcomeKind.REFUSED, status=None, started_at=NOON, ended_at=NOON))
    chosen = f"{path}?{query(since='2026-04-10T11:00', state='dead', type='session.completed')}"
    for label, since, until in (
        ("since the first failure, 12:00", "2026-04-10 11:59:00", "2026-04-10 12:00:00"),
        ("last hour", "2026-04-10 11:00:00", "2026-04-10 12:00:00"),
        ("yesterday", "2026-04-09 00:00:00", "2026-04-10 00:00:00"),
    ):
        page = await browser.open(chosen)
        [link] = re.findall(rf'href="([^"]*)">{label}</a>', page.html)
        page = await browser.open(unescape(link))
        assert (page.status, label in page.text) == (200, True)
        assert f'value="{since}"' in page.html
        assert f'value="{until}"' in page.html
        # The other fields stay as they were.
        assert 'value="session.completed" checked' in page.html
        assert re.findall(r'name="state" value="(\w+)" checked', page.html) == ["dead"]
        assert "match" in page.text


async def test_an_ended_failure_is_offered_by_its_hour(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    mine = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    failed_at, at = NOON - timedelta(hours=13, minutes=30), NOON - timedelta(hours=13)
    failed = {"outcome": OutcomeKind.REFUSED, "status": None, "started_at": failed_at, "ended_at": failed_at}
    await api.record(attempt(**mine, event_id="evt_lost", **failed))
    await api.record(attempt(**mine, event_id="evt_sent", started_at=at, ended_at=at))
    page = await browser.open(f"/webhooks/{made['id']}/replay")
    assert "since the hour of the first failure, 9 Apr 22:00" in page.text


async def test_a_counted_period_has_one_main_button(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await delivered(api, made["id"], 10)
    page = await browser.open(f"/webhooks/{made['id']}/replay?{query(since='2026-04-10T11:00', state='delivered')}")
    assert main_buttons(page) == ["Send them again"]


def main_buttons(page: Page) -> list[str]:
    return re.findall(r'<button class="main">([^<]*)</button>', page.html)


async def test_yesterday_is_that_of_the_zone(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await browser.send("/zone", zone="Pacific/Auckland")
    page = await browser.open(f"/webhooks/{made['id']}/replay")
    [link] = re.findall(r'href="([^"]*)">yesterday</a>', page.html)
    # Noon in UTC is midnight in Auckland.
    assert "since=2026-04-10+00%3A00%3A00&until=2026-04-11+00%3A00%3A00" in unescape(link)


async def test_times_are_in_the_zone_of_the_person(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await delivered(api, made["id"], 10, 70)
    await browser.send("/zone", zone="Europe/Berlin", next="/")
    path = f"/webhooks/{made['id']}/replay"
    assert "in Europe/Berlin" in (await browser.open(path)).text
    # 13:00 in Berlin is 11:00 UTC.
    wanted = query(since="2026-04-10T13:00", state="delivered", zone="Europe/Berlin")
    page = await browser.open(f"{path}?{wanted}")
    assert "1 delivery matches, first seen from 10 Apr 2026, 13:50:00 CEST" in page.text
    # The link means the same for a person elsewhere.
    await browser.send("/zone", zone="Asia/Tokyo", next="/")
    page = await browser.open(f"{path}?{wanted}")
    assert "1 delivery matches" in page.text
    assert 'value="2026-04-10T13:00"' in page.html


async def test_what_was_typed_is_kept_beside_its_error(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    path = f"/webhooks/{made['id']}/replay"
    wanted = query(since="2026-04-10T11:00", until="2026-04-10T10:00", type="session.scored", backfill=1)
    page = await browser.open(f"{path}?{wanted}")
    assert page.status == 422
    assert "Until must be later than since" in page.text
    assert 'value="2026-04-10T11:00"' in page.html
    assert 'value="session.scored" checked' in page.html
    assert 'name="backfill" value="1" checked' in page.html
    assert 'value="delivered" checked' not in page.html
    for fields, message in (
        ({"since": ""}, "Since is required"),
        ({"since": "now", "state": "dead"}, "Since must be a date and a time"),
        ({"since": "2026-04-10T11:00"}, "States must name a state"),
        ({"since": "2026-04-10T11:00", "state": "nonsense"}, "is not a state"),
        ({"since": "2026-04-10T11:00", "state": "dead", "type": "<b>"}, "is not one of"),
    ):
        page = await browser.open(f"{path}?{query(**fields)}")
        assert (page.status, message in page.text) == (422, True), message
        assert "<b>" not in page.html


async def test_a_backfill_says_what_the_topic_has(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    for number in (1, 2):
        happened = event(id=f"evt_{number}", account_id=api.acme.account_id)
        api.kafka.append(Outgoing(SESSION_EVENTS, b"k", AvroCodec().encode(happened)))
    api.clock.advance(60)
    wanted = query(since="2026-04-01T00:00", state="delivered", backfill=1)
    page = await browser.open(f"/webhooks/{made['id']}/replay?{wanted}")
    assert "2 events without a delivery" in page.text
    assert "The topic has events since 10 Apr 2026, 12:00:00 UTC, and none that are older." in page.text
    job = await browser.confirm(page)
    await api.finish(job.path.removeprefix("/jobs/"))
    assert "2 added. Finished." in (await browser.open(job.path)).text


async def test_a_running_replay_is_named_and_cancelled(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    await delivered(api, made["id"], 10)
    path = f"/webhooks/{made['id']}/replay"
    page = await browser.open(f"{path}?{query(since='2026-04-10T11:00', state='delivered')}")
    job = await browser.confirm(page)
    page = await browser.open(f"{path}?{query(since='2026-04-10T11:00', state='delivered')}")
    second = await browser.confirm(page)
    assert second.status == 409
    assert job.path.removeprefix("/jobs/") in second.text
    assert 'value="2026-04-10 11:00:00"' in second.html
    page = await browser.confirm(await browser.open(job.path))
    assert (page.path, "Cancelled: what it has done is kept." in page.text) == (job.path, True)
    assert "0 done" in page.text
    assert (await browser.send(f"{job.path}/cancel")).path == job.path


async def test_nothing_to_send_has_no_button(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    page = await browser.open(f"/webhooks/{made['id']}/replay?{query(since='2026-04-10T11:00', state='dead')}")
    assert "0 deliveries match" in page.text
    assert "There is nothing to send" in page.text
    assert "Send them again" not in page.text


async def test_a_viewer_sends_nothing_again(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": "2026-04-10T11:00:00Z"})
    viewer = await signed_in(api, "viewer")
    assert "/replay" not in (await viewer.open(f"/webhooks/{made['id']}")).html
    assert (await viewer.open(f"/webhooks/{made['id']}/replay")).status == 403
    assert (await viewer.send(f"/webhooks/{made['id']}/replay", since="2026-04-10T11:00")).status == 403
    assert (await viewer.open("/dead-letters/preview?act=retry&every=1")).status == 403
    page = await viewer.open(f"/jobs/{job['id']}")
    assert (page.status, "Cancel" in page.text) == (200, False)
    assert (await viewer.send(f"/jobs/{job['id']}/cancel")).status == 403
    await viewer.close()


async def test_another_account_sees_no_replay(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    job = await api.acme.post(f"/v1/webhooks/{made['id']}/replays", {"since": "2026-04-10T11:00:00Z"})
    globex = await signed_in(api, account="globex")
    for path in (f"/webhooks/{made['id']}/replay", f"/jobs/{job['id']}"):
        assert (await globex.open(path)).status == 404, path
    for path in (f"/webhooks/{made['id']}/replay", f"/jobs/{job['id']}/cancel"):
        assert (await globex.send(path, since="2026-04-10T11:00", state="dead")).status == 404, path
    await globex.close()


@pytest.mark.parametrize(("act", "heading"), [("retry", "Retry"), ("discard", "Discard")])
async def test_dead_letters_are_previewed_first(api: ApiFixture, browser: FakeBrowser, act: str, heading: str) -> None:
    crm, lms = await api.acme.webhook(), await api.acme.webhook()
    await dead(api, crm["id"], 1, 2)
    await dead(api, lms["id"], 3)
    assert 'action="/dead-letters/preview"' in (await browser.open("/dead-letters")).html
    page = await browser.open(f"/dead-letters/preview?act={act}&every=1")
    assert "3 dead letters match, of 2 webhooks; the oldest was first seen 10 Apr 2026, 11:57:00 UTC" in page.text
    assert await api.jobs.list_unfinished("") == []
    page = await browser.open(f"/dead-letters/preview?{query(act=act, every=1, webhook=crm['id'])}")
    assert "2 dead letters match, of 1 webhook" in page.text
    job = await browser.confirm(page)
    assert f"{heading}: 2 dead letters" in job.text


async def test_checked_dead_letters_are_previewed(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook()
    ids = await dead(api, made["id"], 1, 2, 3)
    page = await browser.open(f"/dead-letters/preview?{query(act='retry', id=ids[:2])}")
    assert "2 dead letters match" in page.text
    job = await browser.confirm(page)
    assert "Retry: 2 dead letters" in job.text
    assert (await browser.confirm(page)).path == job.path
    await api.finish(job.path.removeprefix("/jobs/"))
    page = await browser.open(f"/dead-letters/preview?{query(act='retry', id=ids[:2])}")
    assert "They were retried or discarded meanwhile" in page.text
    for wrong in ("act=retry", "act=replay&every=1", "act=retry&every=1&reason=nonsense"):
        assert (await browser.open(f"/dead-letters/preview?{wrong}")).status == 422
    assert (await browser.send("/dead-letters", act="replay", every="1")).status == 422
