"""A webhook's page says what an act did, and leads a person through the first steps."""

from pathlib import Path

from dashboard.pages import FakeBrowser, signed_in

from builders import attempt, delivery
from rest.api_fixture import URL, ApiFixture, open_api
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import HoldReason
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.events.event_data import EVENT_TYPES


async def test_pause_and_enable_say_what_they_did(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}"
    page = await browser.send(f"{path}/pause")
    assert page.path == f"{path}?done=paused"
    assert "Paused. New events are held until you enable it." in page.text
    for choice, words in (
        ("deliver", "Enabled. New events are sent at once, held ones oldest first."),
        ("keep", "Enabled. New events are sent at once. Held ones become dead letters."),
        ("discard", "Enabled. New events are sent at once. Held ones are discarded."),
    ):
        await browser.send(f"{path}/pause")
        page = await browser.send(f"{path}/enable", held=choice)
        assert words in page.text
        assert '<p class="note" role="status">Enabled' in page.html


async def test_a_message_of_another_state_is_not_shown(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}"
    for done in ("paused", "nonsense", "<script>"):
        page = await browser.open(f"{path}?done={done}")
        assert page.status == 200
        assert 'class="note"' not in page.html
    await browser.send(f"{path}/pause")
    assert "Enabled." not in (await browser.open(f"{path}?done=deliver")).text


async def test_a_rotation_says_what_to_do_next(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook())['id']}"
    page = await browser.send(f"{path}/secret/rotate", hours="24")
    assert "Rotated. Give your receiver the new secret before 11 Apr 2026, 12:00:00 UTC." in page.text
    page = await browser.send(f"{path}/secret/finish-rotation")
    assert "The old secret has ended. Events are signed with the new one alone." in page.text
    page = await browser.send(f"{path}/secret/rotate", hours="0")
    assert "Rotated. The old secret has ended: give your receiver the new one now." in page.text
    assert "Rotated" not in (await browser.send(f"{path}/secret")).text


async def test_saving_and_deleting_say_so(api: ApiFixture, browser: FakeBrowser) -> None:
    path = f"/webhooks/{(await api.acme.webhook(description='CRM'))['id']}"
    assert "Saved." in (await browser.send(f"{path}/edit", url=URL)).text
    assert "Deleted. It gets no further event." in (await browser.send(f"{path}/delete")).text


async def test_a_new_webhook_has_three_steps(api: ApiFixture, browser: FakeBrowser) -> None:
    types = ["session.completed", "usage.threshold"]
    page = await browser.send("/webhooks/new", url=URL, events=types)
    steps = [page.text.index(words) for words in ("1. Put the signing secret", "2. Verify", "3. Send a test event")]
    assert steps == sorted(steps)
    for event_type in EVENT_TYPES:
        assert (f'"type": "{event_type}"' in page.text) is (event_type in types)
    assert '"thresholdPercent": 80' in page.text
    assert '"test"' not in page.html.partition("<pre")[2].partition("</pre>")[0]
    # The steps stay while a person follows them.
    shown = await browser.send(f"{page.path.partition('?')[0]}/secret?new=1")
    assert "whsec_" in shown.text
    assert "2. Verify" in shown.text
    assert "2. Verify" not in (await browser.open(page.path.partition("?")[0])).text
    assert len(page.response.content) <= 30_000


WARNING = "The host “crm.unknown.example.com” does not resolve. Events fail until it does: check the URL."


async def test_a_host_that_does_not_resolve_is_said_at_once(api: ApiFixture, browser: FakeBrowser) -> None:
    page = await browser.send("/webhooks/new", url="https://crm.unknown.example.com/hooks")
    assert WARNING in page.text
    assert "Created." in page.text
    path = page.path.partition("?")[0]
    assert "does not resolve" not in (await browser.open(f"{path}?unresolved=evil.example.com")).text
    page = await browser.send(f"{path}/edit", url="https://crm.unknown.example.com/v2")
    assert WARNING in page.text
    assert "does not resolve" not in (await browser.send(f"{path}/edit", url=URL)).text


async def test_a_form_says_whether_plain_http_is_allowed(browser: FakeBrowser, tmp_path: Path) -> None:
    assert "plain http" not in (await browser.open("/webhooks/new")).text
    assert "must start with https://" in (await browser.send("/webhooks/new", url="http://crm.example.com")).text
    allowed = {"SCORM_WEBHOOKS_ALLOW_HTTP": "true"}
    async with open_api(f"sqlite:///{tmp_path}/http.sqlite", settings=allowed) as api:
        other = await signed_in(api)
        assert "https, or plain http, which is allowed here." in (await other.open("/webhooks/new")).text
        assert "Created." in (await other.send("/webhooks/new", url="http://crm.example.com")).text
        await other.close()


async def test_a_viewer_sees_no_steps(api: ApiFixture) -> None:
    made = await api.acme.webhook()
    viewer = await signed_in(api, "viewer")
    page = await viewer.open(f"/webhooks/{made['id']}?new=1")
    assert "2. Verify" not in page.text
    assert '"type":' not in page.text
    await viewer.close()


async def test_a_paused_webhook_says_when_a_held_event_is_tried(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(pauseAfter={"failures": 1}, resume="probe")
    known = {"account_id": api.acme.account_id, "webhook_id": made["id"]}
    await api.record(attempt(**known, outcome=OutcomeKind.SERVER_ERROR, next_step=NextStep.TIER, tier="30s"))
    path = f"/webhooks/{made['id']}"
    assert "The next held event is tried at" in (await browser.open(path)).text
    api.clock.advance(3601)
    assert "A held event is tried as soon as there is one." in (await browser.open(path)).text
    held = delivery(**known, event_id="evt_2").to_held(HoldReason.PAUSED, None, is_attempted=False)
    await api.record(held)
    page = await browser.open(path)
    assert "A held event is tried now. If the endpoint takes it, the webhook is enabled" in page.text
    assert "is held, and stays so until the endpoint takes one of them, or you enable the webhook" in page.text


async def test_a_webhook_that_is_paused_again_may_bear_more(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(pauseAfter={"failures": 1})
    known, path = {"account_id": api.acme.account_id, "webhook_id": made["id"]}, f"/webhooks/{made['id']}"
    advice = "It was paused and enabled before. To let it bear short outages"
    failed = {**known, "outcome": OutcomeKind.SERVER_ERROR, "next_step": NextStep.TIER, "tier": "30s"}
    await api.record(attempt(**failed))
    assert advice not in (await browser.open(path)).text
    await browser.send(f"{path}/enable", held="deliver")
    api.clock.advance(60)
    assert advice not in (await browser.open(path)).text
    now = api.clock.now()
    await api.record(attempt(**failed, event_id="evt_2", health_epoch=2, started_at=now, ended_at=now))
    assert advice in (await browser.open(path)).text
