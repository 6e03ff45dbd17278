"""A person finds deliveries by what is known of them, and sees what happened to one."""

import json
import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from dashboard.pages import FakeBrowser, signed_in

from builders import NOON, attempt, delivery
from rest.api_fixture import ApiFixture
from streams.adapters.sql.deliveries.delivery_log import SqlDeliveryStore
from streams.core.accounts.account import DeliveryFilter
from streams.core.deliveries.attempt import NextStep
from streams.core.deliveries.delivery import Trigger
from streams.core.deliveries.delivery_state import DeliveryState
from streams.core.deliveries.outcome import OutcomeKind
from streams.core.page import Page

pytestmark = pytest.mark.slow

SECRET_URL = "https://crm.example.com/hooks?key=abc"


async def webhook_of(api: ApiFixture, **webhook_input: Any) -> dict[str, str]:
    """A webhook of acme, as fields of its deliveries and attempts."""
    made = await api.acme.webhook(**webhook_input)
    return {"account_id": api.acme.account_id, "webhook_id": made["id"]}


def body(**data: str) -> bytes:
    named = ", ".join(f'"{name}": "{value}"' for name, value in data.items())
    return f'{{"data": {{{named}}}}}'.encode()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("evt_1", "/deliveries?event=evt_1"),
        ("sess_1", "/deliveries?session=sess_1"),
        ("learner@1", "/deliveries?learner=learner%401"),
        ("pkg_1", "/deliveries?package=pkg_1"),
        (" dsp_1 ", "/deliveries?dispatch=dsp_1"),
        ("department=sales", "/deliveries?metadata=department%3Dsales"),
    ],
)
async def test_any_id_finds_its_deliveries(api: ApiFixture, browser: FakeBrowser, text: str, path: str) -> None:
    mine = await webhook_of(api)
    ids = {"sessionId": "sess_1", "learnerId": "learner@1", "packageId": "pkg_1", "dispatchId": "dsp_1"}
    known = json.dumps({"data": {**ids, "metadata": {"department": "sales"}}}).encode()
    await api.record(delivery(**mine, event_id="evt_1", body=known), delivery(**mine, event_id="evt_2"))
    page = await browser.client.get("/deliveries", params={"q": text})
    assert page.url.raw_path.decode() == path
    assert "evt_1" in page.text
    assert "evt_2" not in page.text
    assert "1 delivery" in " ".join(page.text.split())


async def test_the_id_of_a_delivery_leads_to_it(api: ApiFixture, browser: FakeBrowser) -> None:
    known = delivery(**await webhook_of(api))
    await api.record(known)
    assert (await browser.open(f"/deliveries?q={known.id}")).path == f"/deliveries/{known.id}"
    other = await signed_in(api, account="globex")
    page = await other.open(f"/deliveries?q={known.id}")
    assert "No delivery has this id: no event, session, learner, package or dispatch." in page.text
    assert "An event that no webhook wants has no delivery: GET /v1/events/{id} says why." in page.text
    await other.close()


async def test_a_search_keeps_the_filter(api: ApiFixture, browser: FakeBrowser) -> None:
    await api.record(delivery(**await webhook_of(api), event_id="evt_1"))
    page = await browser.open("/deliveries?state=waiting&q=evt_1")
    assert page.path == "/deliveries?state=waiting&event=evt_1"
    assert "state: waiting × remove" in page.text


async def test_times_of_the_form_become_absolute(browser: FakeBrowser) -> None:
    await browser.send("/zone", zone="Asia/Tokyo")
    page = await browser.open("/deliveries?state=&since=2026-04-10T12:00:00&until=")
    assert page.path == "/deliveries?since=2026-04-10T03%3A00%3A00Z"
    assert 'value="2026-04-10 12:00:00"' in page.html


async def test_facets_count_what_a_link_would_show(api: ApiFixture, browser: FakeBrowser) -> None:
    crm, dw = await webhook_of(api, description="CRM"), await webhook_of(api, description="Warehouse")
    await api.record(
        delivery(**crm, event_id="evt_1"),
        attempt(**crm, event_id="evt_1"),
        delivery(**crm, event_id="evt_2"),
        delivery(**dw, event_id="evt_3", event_type="session.scored"),
    )
    page = await browser.open("/deliveries")
    assert "waiting 2 delivered 1" in page.text
    assert "CRM 2 Warehouse 1" in page.text
    page = await browser.open("/deliveries?state=delivered")
    assert "waiting 2 delivered × 1" in page.text
    assert "CRM 1" in page.text
    assert f"webhook={dw['webhook_id']}" not in page.html


async def test_a_kind_of_failure_finds_its_deliveries(api: ApiFixture, browser: FakeBrowser) -> None:
    mine = await webhook_of(api)
    await api.record(
        attempt(**mine, event_id="evt_timeout", outcome=OutcomeKind.TIMEOUT, status=None, message="too slow"),
        attempt(**mine, event_id="evt_503", outcome=OutcomeKind.SERVER_ERROR, status=503, message="503"),
    )
    assert "2 failed: 1 5xx response, 1 no response in time" in (await browser.open("/")).text
    page = await browser.open("/deliveries?error=timeout")
    assert "evt_timeout" in page.text
    assert "evt_503" not in page.text
    page = await browser.open("/deliveries?class=5")
    assert "an attempt got 5xx × remove" in page.text
    assert "evt_503" in page.text
    assert "evt_timeout" not in page.text


async def test_a_row_shows_the_last_attempt(api: ApiFixture, browser: FakeBrowser) -> None:
    mine = await webhook_of(api)
    await api.record(
        attempt(
            **mine,
            outcome=OutcomeKind.SERVER_ERROR,
            status=503,
            ended_at=NOON + timedelta(milliseconds=212),
            next_step=NextStep.TIER,
            tier="30s",
            message="The endpoint responded with 503: its server failed.",
        )
    )
    text = (await browser.open("/deliveries")).text
    assert "The endpoint responded with 503: its server failed. ◔ waiting next 12:00 , in 30 s" in text
    assert "503 212 ms 1" in text


async def test_the_timeline_has_each_attempt_with_its_wait(api: ApiFixture, browser: FakeBrowser) -> None:
    mine = await webhook_of(api, url=SECRET_URL)
    known = delivery(**mine)
    later = NOON + timedelta(minutes=2)
    await api.record(
        known,
        attempt(**mine, outcome=OutcomeKind.REFUSED, status=None, message="refused", url=SECRET_URL),
        attempt(**mine, number=2, started_at=later, ended_at=later, url=SECRET_URL),
        attempt(**mine, generation=2, number=1, trigger=Trigger.MANUAL, started_at=later, ended_at=later),
    )
    page = await browser.open(f"/deliveries/{known.id}")
    assert "Attempt 1 : 0 ms · refused" in page.text or "Attempt 1: 0 ms · refused" in page.text
    assert "2 min later" in page.text
    assert "Sent again by a person, as generation 2" in page.text
    assert "curl -i -X POST https://crm.example.com/hooks" in page.text
    assert "key=abc" in page.text


async def test_a_viewer_sees_no_headers_and_no_query(api: ApiFixture) -> None:
    mine = await webhook_of(api, url=SECRET_URL)
    known = delivery(**mine)
    await api.record(known, attempt(**mine, url=SECRET_URL, request_headers={"x-key": "k-1"}))
    job = await api.acme.post(f"/v1/webhooks/{mine['webhook_id']}/replays", {"since": "2026-04-10T11:00:00Z"})
    await api.acme.post(f"/v1/webhooks/{mine['webhook_id']}/pause")
    viewer = await signed_in(api, "viewer")
    paths = (
        "/",
        "/webhooks",
        "/deliveries",
        "/audit",
        "/notifications",
        f"/deliveries/{known.id}",
        f"/jobs/{job['id']}",
    )
    for path in (*paths, f"/webhooks/{mine['webhook_id']}", f"/webhooks/{mine['webhook_id']}/code"):
        page = await viewer.open(path)
        assert page.status == 200, path
        assert "key=abc" not in page.html, path
        assert "k-1" not in page.html, path
    await viewer.close()


async def test_the_audit_log_is_filtered(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    await browser.send(f"/webhooks/{made['id']}/pause")
    page = await browser.open(f"/audit?object={made['id']}")
    assert "webhook.paused" in page.text
    assert "session.begun" not in page.text
    assert "webhook.created" not in (await browser.open("/audit?action=webhook.paused")).text
    assert "Nothing matches" in (await browser.open("/audit?actor=nobody")).text
    assert (await browser.open("/audit?actor=%00")).status == 422


async def test_the_audit_log_has_names_and_exact_times(api: ApiFixture, browser: FakeBrowser) -> None:
    made = await api.acme.webhook(description="CRM")
    users = f"/v1/accounts/{api.acme.account_id}/users"
    bob = await api.operator.post(users, {"email": "bob@acme.example"})
    since = {"since": "2026-04-10T09:00:00Z", "states": ["delivered"]}
    await api.acme.post(f"/v1/webhooks/{made['id']}/replays", since)
    await api.acme.post("/v1/dead-letters/retry", {"filter": {"webhookId": made["id"]}})
    await browser.send("/zone", zone="Asia/Tokyo")
    text = (await browser.open("/audit")).text
    assert f"webhook.replayed {made['id']} CRM" in text
    assert f"user.added {bob['id']} bob@acme.example" in text
    assert f"webhook: {made['id']} (CRM)" in text
    assert "since: 10 Apr 2026, 18:00:00 JST" in text
    await api.acme.delete(f"/v1/webhooks/{made['id']}")
    assert f"webhook.deleted {made['id']} CRM, deleted" in (await browser.open("/audit")).text


async def test_a_filter_with_nul_is_refused(api: ApiFixture, browser: FakeBrowser) -> None:
    for path in ("/deliveries", "/dead-letters"):
        assert (await browser.open(f"{path}?webhook=%00")).status == 422


async def test_sign_in_mails_are_not_listed(api: ApiFixture, browser: FakeBrowser) -> None:
    await api.operator.post(f"/v1/accounts/{api.acme.account_id}/users", {"email": "ada@acme.example"})
    await browser.send("/sign-in", email="ada@acme.example")
    assert "No mails yet" in (await browser.open("/notifications")).text
    assert (await api.acme.get("/v1/notifications"))["data"] == []


async def test_the_colours_are_chosen(browser: FakeBrowser) -> None:
    assert "data-theme" not in (await browser.open("/")).html
    page = await browser.send("/theme", theme="dark", next="/deliveries")
    assert page.path == "/deliveries"
    assert 'data-theme="dark"' in page.html
    assert "data-theme" not in (await browser.send("/theme", theme="", next="/")).html
    assert (await browser.send("/theme", theme="pink")).status == 422


async def test_what_a_pause_holds_is_said_with_its_cause(api: ApiFixture, browser: FakeBrowser) -> None:
    mine = await webhook_of(api, description="CRM")
    failures = [
        attempt(
            **mine,
            event_id=f"evt_{number}",
            outcome=OutcomeKind.REFUSED,
            status=None,
            message=f"refused {number}",
            started_at=NOON + timedelta(seconds=2 * number),
            ended_at=NOON + timedelta(seconds=2 * number + 1),
        )
        for number in range(5)
    ]
    for number, failure in enumerate(failures):
        await api.record(failure)
        if number == 3:
            page = await browser.open(f"/webhooks/{mine['webhook_id']}")
            assert "4 of 5 failures in a row" in page.text
    page = await browser.open(f"/webhooks/{mine['webhook_id']}")
    assert "It was paused after 5 failures in a row" in page.text
    for number in range(5):
        assert f"refused {number}" in page.text
    for path in ("/deliveries", "/account", "/audit"):
        assert "CRM is paused since" in (await browser.open(path)).text, path
    assert "CRM paused since" in (await browser.open("/")).text


async def test_many_attempts_are_shown_page_by_page(api: ApiFixture, browser: FakeBrowser) -> None:
    mine = await webhook_of(api)
    known = delivery(**mine)
    answer = {"response_body": b"\x01'" * 2048, "response_headers": {"x": "'" * 4000}}
    await api.record(known, *(attempt(**mine, **answer, number=number) for number in range(1, 101)))
    page = await browser.open(f"/deliveries/{known.id}")
    assert len(page.html) <= 1_000_000
    shown = re.findall(r"Attempt (\d+)<", page.html)
    assert "Newest attempts" not in page.text
    while link := re.search(r'href="([^"]*)">Earlier attempts', page.html):
        page = await browser.open(unescape(link[1]))
        assert len(page.html) <= 1_000_000
        shown = re.findall(r"Attempt (\d+)<", page.html) + shown
        assert "Newest attempts" in page.text
    assert shown == [str(number) for number in range(1, 101)]
    assert (await browser.open(f"/deliveries/{known.id}?after=x")).status == 422


async def test_what_became_of_each_event_is_a_csv_file(api: ApiFixture, browser: FakeBrowser) -> None:
    known = await webhook_of(api)
    for number in range(1, 4):
        seen = NOON + timedelta(seconds=number)
        body = b'{"data": {"sequence": 7}}' if number == 3 else b"{}"
        await api.record(delivery(**known, event_id=f"evt_{number}", first_seen_at=seen, body=body), at=seen)
    await api.record(attempt(**known, event_id="evt_1", first_seen_at=NOON))
    page = await browser.open(f"/webhooks/{known['webhook_id']}")
    paths = [unescape(path) for path in re.findall(r'href="([^"]+deliveries.csv[^"]*)"', page.html)]
    whole = await browser.open(paths[-1])
    heading, *rows = whole.html.splitlines()
    assert heading == "event,type,sequence,state,target,first_seen_at,changed_at,attempts,delivery"
    assert [row.split(",")[:4] for row in rows] == [
        ["evt_3", "session.completed", "7", "waiting"],
        ["evt_2", "session.completed", "", "waiting"],
        ["evt_1", "session.completed", "", "delivered"],
    ]
    assert "since=2026-04-09T12%3A00" in paths[0]
    period = await browser.open(paths[-1] + "?since=2026-04-10T12:00:02Z&until=2026-04-10T12:00:03Z")
    assert [row.split(",")[0] for row in period.html.splitlines()[1:]] == ["evt_2"]
    assert (await browser.open(paths[-1] + "?since=noon")).status == 422
    assert (await browser.open("/webhooks/wh_unknown/deliveries.csv")).status == 404


async def test_a_long_csv_file_is_read_page_by_page(
    api: ApiFixture, browser: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await webhook_of(api)
    seen = [delivery(**known, event_id=f"evt_{number}") for number in range(1200)]
    await api.record(*seen)
    limits: list[int] = []
    read = SqlDeliveryStore.list

    async def count_rows(store: SqlDeliveryStore, delivery_filter: DeliveryFilter) -> Page[DeliveryState]:
        page = await read(store, delivery_filter)
        limits.append(len(page.rows))
        return page

    monkeypatch.setattr(SqlDeliveryStore, "list", count_rows)
    csv = await browser.open(f"/webhooks/{known['webhook_id']}/deliveries.csv")
    assert len(set(csv.html.splitlines())) == 1201
    assert limits == [500, 500, 200]
